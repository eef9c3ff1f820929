"""Which secret each part of the platform needs, for parts that share no disk.

`certwire up` has one secrets directory for all. In containers and on Kubernetes each part sees a
directory of its own, with nothing in it that it can do without: the gateway has no key that opens
anything, and Postgres does not see the one under which what it holds is sealed.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from contracts.subjects import CLI, Service
from services.provisioning.nats.configuration import ACCOUNTS_FILE
from services.provisioning.nats.keys import seed_file
from services.provisioning.nats.permissions import OPERATOR, users
from services.provisioning.nats.tls import CA_FILE, SERVER_FILES
from services.provisioning.postgres import INSPECT, SERVICES
from shared.files import write_private
from shared.settings import Settings

SEALING: Final = (Service.ISSUER, Service.REGISTRY, Service.INSTANCE, Service.ACME)
"""The services that seal what they store, and so need the key-encryption key."""
NATS: Final = "nats"
POSTGRES: Final = "postgres"


def hand_out(settings: Settings, directory: Path, services: Iterable[Service]) -> None:
    """Give each part a directory of its own below `directory`, with its files."""
    for part, files in parts(settings, services).items():
        (directory / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in files:
            if file.is_file():  # without TLS of our own making, or a token, there is none of its
                write_private(directory / part / file.name, file.read_bytes())


def parts(settings: Settings, services: Iterable[Service]) -> dict[str, list[Path]]:
    """Return the files of each part: those of `services`, of both servers, and of the operator."""
    secrets, nats = settings.secrets, settings.home / "nats"
    return {
        **{str(service): _service(secrets, service) for service in services},
        OPERATOR: [
            *_seeds(secrets, CLI),
            *_seeds(secrets, OPERATOR),
            secrets / f"postgres-{INSPECT}.password",
            secrets / CA_FILE,
        ],
        NATS: [nats / name for name in (ACCOUNTS_FILE, *SERVER_FILES)],
        POSTGRES: [secrets / "postgres-postgres.password"],
    }


def _service(secrets: Path, service: Service) -> list[Path]:
    files = [*_seeds(secrets, service), secrets / CA_FILE]
    if service in SERVICES:
        files.append(secrets / f"postgres-{service}.password")
    if service in SEALING:
        files.append(secrets / "kek")
    if service is Service.ISSUER:
        files.append(secrets / "pkcs11.pin")  # of a token, where CAs have their keys in one
    if service is Service.ACME:
        files.append(secrets / "acme-eab.hmac")  # of the account that its CAs want it to have
    return files


def _seeds(secrets: Path, name: str) -> list[Path]:
    return [seed_file(secrets, user) for user in users() if user.name == name]
