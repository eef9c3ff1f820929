"""Tests of services.cli.agent_files: a pair that fits, whatever happens when."""

import json
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from services.cli.agent_files import RENEWAL, AgentDirectory, Identity, Pending
from services.cli.errors import CliError
from tests.support.agent_platform import public_key
from tests.support.authority import Authority

AUTHORITY = Authority()


@pytest.fixture
def directory(tmp_path: Path) -> AgentDirectory:
    directory = AgentDirectory(tmp_path / "agent")
    directory.make()
    return directory


def answer(pending: Pending) -> str:
    return AUTHORITY.sign_client(pending.csr_pem).public_bytes(Encoding.PEM).decode()


def renew(directory: AgentDirectory) -> x509.Certificate:
    """Renew; return the certificate."""
    pending = directory.begin(RENEWAL)
    return directory.install(pending, answer(pending)).certificate


def pair(directory: AgentDirectory) -> x509.Certificate:
    """Return the certificate in use, to which its key belongs."""
    path = (directory.path / "current").resolve(strict=True)
    key, leaf = (path / "client.key").read_bytes(), (path / "client.crt").read_bytes()
    certificate = x509.load_pem_x509_certificate(leaf)
    half = load_pem_private_key(key, None).public_key()
    der = half.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert der == public_key(certificate)
    assert (path / "client.pem").read_bytes() == key + leaf
    return certificate


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pair_is_installed_and_replaced(directory: AgentDirectory) -> None:
    assert directory.current() is None
    certificates = [renew(directory) for _ in range(4)]
    assert len({certificate.serial_number for certificate in certificates}) == 4
    assert pair(directory) == certificates[-1]
    current = directory.current()
    assert current
    assert current.certificate == certificates[-1]
    assert current.serial_hex == f"{certificates[-1].serial_number:X}"


def test_keys_are_for_nobody_else(directory: AgentDirectory) -> None:
    pending = directory.begin(RENEWAL)
    assert mode(directory.path / "pending-renewal" / "client.key") == 0o600
    directory.install(pending, answer(pending))
    current = directory.path / "current"
    modes = {name: mode(current / f"client.{name}") for name in ("key", "pem", "crt")}
    assert modes == {"key": 0o600, "pem": 0o600, "crt": 0o644}
    assert mode(directory.path) == 0o700


def test_the_version_before_stays_for_who_is_just_reading_it(directory: AgentDirectory) -> None:
    renew(directory)
    read = (directory.path / "current").resolve()
    renew(directory)
    assert (read / "client.key").exists()
    renew(directory)
    assert not read.exists()
    assert len(list((directory.path / "versions").iterdir())) == 2


def test_readers_see_a_pair_at_every_moment(directory: AgentDirectory) -> None:
    renew(directory)
    stop, seen = threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.add(pair(directory).serial_number)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(30):
            renew(directory)
    finally:
        stop.set()
        reader.join()
    assert len(seen) > 1


def test_the_same_request_is_made_until_it_is_answered(directory: AgentDirectory) -> None:
    first = directory.begin(RENEWAL)
    assert AgentDirectory(directory.path).begin(RENEWAL) == first
    assert directory.pending(RENEWAL) == first
    assert directory.pending("enrolment:1") is None
    directory.install(first, answer(first))
    assert directory.pending(RENEWAL) is None
    assert directory.begin(RENEWAL) != first


def test_an_answered_request_whose_removal_was_cut_off_is_over(directory: AgentDirectory) -> None:
    pending = directory.begin(RENEWAL)
    kept = (directory.path / "pending-renewal").rename(directory.path / "kept")
    directory.install(pending, answer(pending))
    kept.rename(directory.path / "pending-renewal")
    assert directory.pending(RENEWAL) is None
    assert directory.begin(RENEWAL).public_key != pending.public_key


@pytest.mark.parametrize("name", ["client.key", "client.csr", "request.json"])
def test_a_request_that_was_never_whole_is_made_anew(directory: AgentDirectory, name: str) -> None:
    first = directory.begin(RENEWAL)
    (directory.path / "pending-renewal" / name).unlink()
    assert directory.pending(RENEWAL) is None
    assert directory.begin(RENEWAL).public_key != first.public_key


def test_an_enrolment_for_another_token_is_another_request(directory: AgentDirectory) -> None:
    renewal, first = directory.begin(RENEWAL), directory.begin("enrolment:1")
    assert directory.begin("enrolment:2") != first
    assert directory.pending("enrolment:1") is None
    assert directory.pending(RENEWAL) == renewal


def test_a_certificate_of_another_key_is_not_installed(directory: AgentDirectory) -> None:
    certificate = renew(directory)
    pending = directory.begin(RENEWAL)
    for pem in (answer(directory.begin("enrolment:1")), "no certificate", ""):
        with pytest.raises(ValueError, match=r"."):
            directory.install(pending, pem)
    assert pair(directory) == certificate
    assert directory.pending(RENEWAL) == pending


def test_what_a_killed_agent_left_is_removed(directory: AgentDirectory) -> None:
    renew(directory)
    (directory.path / ".new-pending-renewal").mkdir()
    (directory.path / "versions" / ".new-x").mkdir()
    (directory.path / ".new-current").symlink_to("nowhere")
    (directory.path / ".secrets.json.4711").touch()
    with directory.locked():
        names = {path.name for path in directory.path.iterdir()}
    assert names == {"current", "lock", "versions"}
    assert len(list((directory.path / "versions").iterdir())) == 1
    pair(directory)


def test_who_the_machine_is(directory: AgentDirectory) -> None:
    with pytest.raises(CliError, match="certwire agent enroll"):
        directory.identity()
    identity = Identity("https://localhost:1", label="macbook-pro")
    directory.write_identity(identity, AUTHORITY.ca_pem)
    assert directory.identity() == identity
    assert directory.ca.read_text() == AUTHORITY.ca_pem
    known = json.loads((directory.path / "agent.json").read_text())
    assert known == {"url": "https://localhost:1", "label": "macbook-pro"}
    for broken in ("", "{", "[]", '{"colour": "red"}'):
        (directory.path / "agent.json").write_text(broken)
        with pytest.raises(CliError, match="cannot be read"):
            directory.identity()


def test_secrets_are_written_where_they_changed(directory: AgentDirectory) -> None:
    assert directory.write_secrets({"b": 1, "a": "ü"})
    assert mode(directory.secrets) == 0o600
    assert json.loads(directory.secrets.read_text()) == {"a": "ü", "b": 1}
    written = directory.secrets.stat().st_ino
    assert not directory.write_secrets({"a": "ü", "b": 1})
    assert directory.secrets.stat().st_ino == written
    assert directory.write_secrets({})


def test_contents_change_with_certificate_and_secrets(directory: AgentDirectory) -> None:
    contents = [directory.contents()]
    renew(directory)
    contents.append(directory.contents())
    directory.write_secrets({"a": 1})
    contents.append(directory.contents())
    renew(directory)
    contents.append(directory.contents())
    assert len(set(contents)) == 4
    assert directory.deployed() == ""
    directory.write_deployed(contents[-1])
    assert directory.deployed() == directory.contents()
