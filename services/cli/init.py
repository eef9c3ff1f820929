"""`certwire init`: everything that has to be there before the services start.

Each step may be repeated and leaves what it finds, so a run that was cut off anywhere is finished
by the next:

1. `prepare`: secret files and the accounts of NATS. Postgres and NATS can be started after it.
   For servers elsewhere also NATS's certificate, the root's key, and each part's secrets by itself.
2. `initialise`: roles, schemas and tables in Postgres; the platform's CA; administrator and
   superuser, whose secrets are handed out in the transaction that records them.
3. `provision_streams`: the streams in NATS.

With `CERTWIRE_POSTGRES_ADMIN_URL` Postgres is somebody else's and the first secrets are printed;
without it, it is the embedded one, and they are written to `$CERTWIRE_HOME/bootstrap/`.
"""

import argparse
import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit, urlunsplit

from services.cli.errors import OK, CliError, UsageError
from shared.files import write_private
from shared.settings import Settings

if TYPE_CHECKING:
    from services.registry.bootstrap import FirstSecrets

SUPERUSER: Final = "postgres"
"""The role of the embedded cluster that may do everything; its password is a secret file."""


class InitSettings(Settings):
    """What only `certwire init` needs."""

    postgres_admin_url: str | None = None
    """Logs in as a role that may create databases and roles; None for the embedded Postgres."""
    nats_replicas: int = 1
    """Copies of each stream: 3 in a cluster of three servers."""
    nats_names: str = ""
    """DNS names and IP addresses, by commas, in the certificate that is made for NATS; "" makes
    none."""

    @property
    def embedded(self) -> bool:
        """Return whether Postgres is the one that `certwire up` starts."""
        return self.postgres_admin_url is None

    @property
    def admin_url(self) -> str:
        """Return how to log in to Postgres as its administrator. Raises FileNotFoundError."""
        if self.postgres_admin_url is not None:
            return self.postgres_admin_url
        parts = urlsplit(self.database_url)
        password = quote(superuser_password(self), safe="")
        host = parts.netloc.split("@")[-1]
        return urlunsplit(parts._replace(netloc=f"{SUPERUSER}:{password}@{host}", path="/postgres"))

    @property
    def database(self) -> str:
        """Return the name of the database."""
        return urlsplit(self.database_url).path.lstrip("/")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="only make the secret files and the accounts that NATS starts with",
    )
    parser.add_argument(
        "--hand-out",
        type=Path,
        metavar="DIRECTORY",
        help="with --prepare: copy what each part needs to a directory of its own below this one",
    )
    parser.add_argument(
        "--complete-onboarding",
        action="store_true",
        help="as `certwire onboarding complete`, at once",
    )
    parser.add_argument(
        "--files",
        action="store_true",
        help="write the first secrets to $CERTWIRE_HOME/bootstrap rather than print them",
    )
    parser.epilog = (
        "Safe to repeat: what exists stays as it is.\n\n"
        "With CERTWIRE_POSTGRES_ADMIN_URL, DATABASE_URL and NATS_URL it works on servers of your\n"
        "own, and prints the administrator's and the superuser's secrets once, as JSON;\n"
        "CERTWIRE_NATS_NAMES=nats.example.org,10.0.0.2 makes NATS's certificate in --prepare.\n"
        "`certwire up` does all of this by itself.\n\n"
        "Examples:\n"
        "  certwire init --prepare    # then start NATS, with what lies in $CERTWIRE_HOME/nats\n"
        "  certwire init > first-secrets.json"
    )


def run(arguments: argparse.Namespace) -> int:
    """Initialise the platform."""
    if arguments.hand_out and not arguments.prepare:
        raise UsageError("--hand-out goes with --prepare")
    settings = InitSettings()
    prepare(settings)
    if arguments.prepare:
        _prepare_for_elsewhere(settings, arguments.hand_out)
    else:
        asyncio.run(_run(settings, arguments))
    return OK


async def _run(settings: InitSettings, arguments: argparse.Namespace) -> None:
    await initialise(
        settings,
        to_files=arguments.files or settings.embedded,
        complete_onboarding=arguments.complete_onboarding,
    )
    await provision_streams(settings)


def prepare(settings: Settings) -> None:
    """Make the secret files, and the accounts of NATS; what exists stays."""
    from services.provisioning import nats
    from services.provisioning.postgres import ensure_passwords

    directory = settings.secrets
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid == os.geteuid():  # a mounted one is closed by whoever mounts it
        directory.chmod(0o700)
    for name, value in _new_secrets().items():
        if not (directory / name).exists():
            write_private(directory / name, f"{value}\n")
    ensure_passwords(directory)
    nats.ensure_seeds(directory, nats.users())
    accounts = settings.home / "nats" / "accounts.conf"
    accounts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    nats.write_accounts(accounts, directory)


def _prepare_for_elsewhere(settings: InitSettings, parts_directory: Path | None) -> None:
    """Make what servers and services on other machines need, and the root's key stays here."""
    from services.cli.run import installed
    from services.issuer.bootstrap import ensure_root_key
    from services.issuer.settings import IssuerSettings
    from services.provisioning import nats
    from services.provisioning.parts import hand_out

    names = [name.strip() for name in settings.nats_names.split(",") if name.strip()]
    if names:
        nats.ensure_certificate(settings.home / "nats", settings.secrets, names)
    ensure_root_key(IssuerSettings())
    if parts_directory is not None:
        hand_out(settings, parts_directory, installed())


async def initialise(
    settings: InitSettings, *, to_files: bool = True, complete_onboarding: bool = False
) -> None:
    """Do all that Postgres is needed for; it has to be running, NATS has not.

    The first secrets go `to_files`, or to standard output. Raises `CliError` where Postgres's
    administrator can't log in.
    """
    import asyncpg

    from services.issuer.bootstrap import create_platform_ca
    from services.issuer.settings import IssuerSettings
    from services.provisioning.postgres import migrate_all, provision_postgres

    try:
        await provision_postgres(settings.admin_url, settings.secrets, settings.database)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidPasswordError) as error:
        raise CliError(
            f"Postgres refuses its administrator ({error}): set CERTWIRE_POSTGRES_ADMIN_URL"
        ) from error
    await migrate_all(settings)
    await create_platform_ca(IssuerSettings())
    await _create_first_users(settings, to_files, complete_onboarding)


async def _create_first_users(
    settings: InitSettings,
    to_files: bool,  # noqa: FBT001 - handed on
    complete_onboarding: bool,  # noqa: FBT001 - handed on
) -> None:
    """Make administrator and superuser, with registry and issuer in this process."""
    from contracts.issuer import GetPlatformCa
    from contracts.registry import CompleteOnboarding
    from services.cli.local_bus import LocalBus
    from services.issuer import app as issuer_app
    from services.issuer.settings import IssuerSettings
    from services.registry import app as registry_app
    from services.registry.bootstrap import FirstSecrets, create_admin_and_superuser
    from services.registry.settings import RegistrySettings
    from shared.broker import own_call

    def hand_out(secrets: FirstSecrets) -> None:
        if to_files:
            _write(settings, ca_pem, secrets)
        else:
            _print(ca_pem, secrets)

    async with AsyncExitStack() as stack:
        issuer = await issuer_app.build(IssuerSettings())
        stack.push_async_callback(issuer.runtime.close)
        bus = LocalBus(issuer)
        ca_pem = (await bus.request(GetPlatformCa(call=own_call()))).ca_pem
        registry = await registry_app.open_registry(RegistrySettings(), bus.request)
        stack.push_async_callback(registry.runtime.close)
        made = await create_admin_and_superuser(registry, hand_out)
        if to_files and not made:
            _refresh(settings)
        if complete_onboarding:
            command = CompleteOnboarding(call=own_call())
            await LocalBus(registry_app.application(registry)).request(command)


def _write(settings: InitSettings, ca_pem: str, secrets: "FirstSecrets") -> None:
    from services.cli import bootstrap_files
    from services.cli.bootstrap_clear import directory_of

    directory = directory_of(settings.home)
    directory.mkdir(mode=0o700, exist_ok=True)
    bootstrap_files.write_ca(directory, ca_pem)
    bootstrap_files.write_admin(directory, secrets.admin.pkcs12, secrets.admin.password)
    bootstrap_files.write_superuser(directory, secrets.username, secrets.password)
    bootstrap_files.write_connections(directory, settings)


def _print(ca_pem: str, secrets: "FirstSecrets") -> None:
    from services.cli import bootstrap_files

    admin = secrets.admin
    print(
        bootstrap_files.as_json(
            ca_pem, admin.pkcs12, admin.password, secrets.username, secrets.password
        ),
        flush=True,
    )


def _refresh(settings: InitSettings) -> None:
    """Write where the servers are now, as long as the directory has not been cleared."""
    from services.cli import bootstrap_files
    from services.cli.bootstrap_clear import directory_of

    directory = directory_of(settings.home)
    if directory.is_dir():
        bootstrap_files.write_connections(directory, settings)


async def provision_streams(settings: InitSettings) -> None:
    """Create the streams, or bring them up to date; needed again where NATS lost its store."""
    from services.provisioning import nats

    await nats.provision_streams(
        settings.nats_url,
        settings.secrets,
        replicas=settings.nats_replicas,
        ca_file=settings.nats_ca_file,
    )


def superuser_password(settings: Settings) -> str:
    """Return the password of the embedded cluster's superuser. Raises FileNotFoundError."""
    return settings.secret(f"postgres-{SUPERUSER}.password")


def _new_secrets() -> dict[str, str]:
    from shared.secrets import new_key

    return {
        f"postgres-{SUPERUSER}.password": token_urlsafe(32),
        "kek": new_key(),
        "root.passphrase": token_urlsafe(32),
    }
