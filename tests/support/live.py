"""Certificates of projects, and what is below a live directory."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from shared import live_directory
from shared.live_directory import FILES
from tests.support.authority import Authority

AUTHORITY = Authority("Public")


@dataclass(frozen=True)
class Pair:
    """A certificate with its chain, and its key."""

    chain_pem: str
    key_pem: str
    fingerprint: str


def issued(domain: str, *others: str) -> Pair:
    """Return a new certificate for a domain; for a wildcard, for the name below it as well."""
    names = [domain, domain.removeprefix("*.")] if domain.startswith("*.") else [domain]
    leaf = AUTHORITY.server(*names, *others)
    chain = [leaf.certificate, AUTHORITY.issuing]
    return Pair(
        "".join(one.public_bytes(Encoding.PEM).decode() for one in chain),
        leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        leaf.sha256,
    )


def put(root: Path, pair: Pair, domain: str) -> bool:
    """Make it the one in use."""
    return live_directory.write(root, domain, pair.chain_pem, pair.key_pem)


def served(root: Path, domain: str) -> str | None:
    """Return the version in use, None without any.

    Read as a server does that opens the directory once: key and certificates belong together.
    """
    try:
        directory = os.open(
            root / "live" / live_directory.directory_of(domain), os.O_RDONLY | os.O_DIRECTORY
        )
    except FileNotFoundError:
        return None
    try:
        content = {file: _read(file, directory) for file in FILES}
        mode = os.stat("privkey.pem", dir_fd=directory).st_mode
    finally:
        os.close(directory)
    certificate = x509.load_pem_x509_certificate(content["cert.pem"])
    key = load_pem_private_key(content["privkey.pem"], None)
    assert key.public_key() == certificate.public_key()
    assert content["fullchain.pem"] == content["cert.pem"] + content["chain.pem"]
    assert stat.S_IMODE(mode) == 0o600
    return live_directory.version_of(content["fullchain.pem"].decode())


def version(pair: Pair) -> str:
    """Return what `served` says where the pair is in use."""
    return live_directory.version_of(pair.chain_pem)


def _read(file: str, directory: int) -> bytes:
    with os.fdopen(os.open(file, os.O_RDONLY, dir_fd=directory), "rb") as opened:
        return opened.read()


def left_over(root: Path) -> list[str]:
    """Return what a crash left of sets that were never whole."""
    return [str(path) for path in _all(root) if path.name.startswith(".new-")]


def keys(root: Path) -> list[Path]:
    """Return all private keys."""
    return [path for path in _all(root) if path.name == "privkey.pem"]


def _all(root: Path) -> Iterator[Path]:
    """Yield every file and directory; one that goes meanwhile does not matter."""
    for directory, below, files in os.walk(root):
        yield from (Path(directory, name) for name in (*below, *files))
