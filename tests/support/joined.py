"""A directory that has joined a platform of the tests."""

import argparse
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from services.cli.agent_files import AgentDirectory, Identity
from services.cli.agent_join import Joining, join
from services.cli.agent_work import renew
from tests.support.agent_platform import INSTANCE, TOKEN, FakePlatform

OLD = timedelta(hours=17)
"""The age of a certificate of a day that is due."""


def joined(
    platform: FakePlatform, path: Path, *, instance: bool = False, due: bool = True
) -> AgentDirectory:
    """Return a directory with a certificate, which is due to be renewed unless told otherwise."""
    directory = AgentDirectory(path)
    directory.make()
    who = (
        {"instance_id": INSTANCE, "wg_public_key": "key", "vpn_ip": "10.8.0.2"}
        if instance
        else {"label": "macbook-pro"}
    )
    directory.write_identity(Identity(platform.url, **who), platform.authority.ca_pem)
    pending = directory.begin("enrolment:1")
    age = OLD if due else timedelta(0)
    certificate = platform.authority.sign_client(
        pending.csr_pem, platform.lifetime - age, platform.age + age
    )
    platform.issued.append(certificate)
    directory.install(pending, certificate.public_bytes(Encoding.PEM).decode())
    directory.write_deployed(directory.contents())
    directory.forget(pending.purpose)
    return directory


def renew_in(path: Path) -> None:
    """Renew as an agent does, in a process of its own."""
    directory = AgentDirectory(path)
    with directory.locked():
        renew(directory)


def enrol(arguments: argparse.Namespace) -> None:
    """Exchange the token of all tests for a certificate."""
    join(arguments, TOKEN, Joining("/api/enroll", lambda csr: {"token": TOKEN, "csr": csr}))
