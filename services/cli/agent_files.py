"""The files of an agent: at every moment a key and a certificate that belong together.

```text
agent.json               who the machine is, and where the platform is
ca.crt                   what to trust
current -> versions/…    swapped when a new certificate is there
current/client.{key,crt} the pair; client.pem has both in one file
pending-…/               a key and its request that have no answer yet
secrets.json             an instance's secrets
deployed                 what the hook has succeeded for
watch.json               of a host that watches: see `watch_files`
```

A new certificate, step by step; after a crash between any two of them the rest is done again:

1. A key, its request and an idempotency key are written to `pending-renewal` (or -enrolment). Not
   before that is the platform asked, with the same request until it answers: so no reply that is
   lost loses anything.
2. Key and certificate are written to a directory of their own below `versions`.
3. `current` is swapped, atomically.
4. The request is removed, and so are versions before the last one. That of an enrolment is removed
   when everything else is done: until then the command can be called again.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from services.cli.errors import CliError
from shared.files import write_private
from shared.identifiers import uuid7

RENEWAL: Final = "renewal"
"""The purpose of requests that the certificate in use renews."""
KEY: Final = "client.key"
CERTIFICATE: Final = "client.crt"
BOTH: Final = "client.pem"
CSR: Final = "client.csr"
REQUEST: Final = "request.json"
TEMPORARY: Final = ".new-"
LEFTOVERS: Final = (f"{TEMPORARY}*", f"versions/{TEMPORARY}*", ".*.[0-9]*")
"""Of a killed agent: nothing that was whole. The last are those of `shared.files`."""


@dataclass(frozen=True)
class Identity:
    """Who the machine is: an agent with a label, or an instance."""

    url: str
    label: str | None = None
    instance_id: str | None = None
    wg_public_key: str | None = None
    vpn_ip: str | None = None


@dataclass(frozen=True)
class Pending:
    """A request that has no answer yet.

    `purpose` says what it was made for, such as `renewal`; up to its first colon it names the
    directory.
    """

    key_pem: bytes
    csr_pem: str
    idempotency_key: str
    purpose: str

    @property
    def public_key(self) -> bytes:
        """Return the key's public half in DER."""
        return _public_half(self.key_pem)


@dataclass(frozen=True)
class Current:
    """The certificate in use."""

    path: Path
    certificate: x509.Certificate
    fingerprint: str

    @property
    def serial_hex(self) -> str:
        return f"{self.certificate.serial_number:X}"

    @property
    def public_key(self) -> bytes:
        """Return its public key in DER."""
        return _der(self.certificate)


class AgentDirectory:
    """The files of one agent."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path.absolute()
        self.ca: Final = self.path / "ca.crt"
        self.secrets: Final = self.path / "secrets.json"
        self._current = self.path / "current"
        self._versions = self.path / "versions"
        self._identity = self.path / "agent.json"
        self._deployed = self.path / "deployed"

    def make(self) -> None:
        """Make the directory. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._versions.mkdir(mode=0o755, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Work on the files as the only one; wait for who does so."""
        with (self.path / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for pattern in LEFTOVERS:
                for leftover in self.path.glob(pattern):
                    _remove(leftover)
            yield

    # --- Who the machine is -------------------------------------------------------------------

    def has_identity(self) -> bool:
        """Return whether the machine has joined."""
        return self._identity.exists()

    def identity(self) -> Identity:
        """Return what enrolment wrote. Raises CliError where there was none."""
        try:
            return Identity(**json.loads(self._identity.read_text()))
        except FileNotFoundError:
            message = f"there is no agent in {self.path}: `certwire agent enroll` makes one"
            raise CliError(message) from None
        except (ValueError, TypeError) as error:
            message = f"{self._identity} cannot be read: {error}"
            raise CliError(message) from error

    def write_identity(self, identity: Identity, ca_pem: str) -> None:
        """Keep who the machine is and whom it trusts."""
        write_private(self.ca, ca_pem)
        known = {name: value for name, value in asdict(identity).items() if value is not None}
        write_private(self._identity, json.dumps(known, indent=2) + "\n")

    # --- The certificate in use -----------------------------------------------------------------

    def current(self) -> Current | None:
        """Return the certificate in use. Raises OSError and ValueError."""
        try:
            path = self._current.resolve(strict=True)
        except FileNotFoundError:
            return None
        certificate = x509.load_pem_x509_certificate((path / CERTIFICATE).read_bytes())
        return Current(path, certificate, certificate.fingerprint(SHA256()).hex())

    # --- A new one ------------------------------------------------------------------------------

    def pending(self, purpose: str) -> Pending | None:
        """Return the request that was made for this and has no answer yet."""
        directory = self._pending(purpose)
        try:
            request = json.loads((directory / REQUEST).read_text())
            pending = Pending(
                key_pem=(directory / KEY).read_bytes(),
                csr_pem=(directory / CSR).read_text(),
                idempotency_key=request["idempotency_key"],
                purpose=request["purpose"],
            )
            current = self.current()
            answered = (
                purpose == RENEWAL
                and current is not None
                and current.public_key == pending.public_key
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # none, or one that was never whole and so never sent
        return None if answered or pending.purpose != purpose else pending

    def begin(self, purpose: str) -> Pending:
        """Return a request that the platform may be asked: the one that waits, else a new one.

        This is step 1.
        """
        waiting = self.pending(purpose)
        if waiting is not None:
            return waiting
        self.forget(purpose)
        new = _new_request(purpose)
        request = {"idempotency_key": new.idempotency_key, "purpose": purpose}
        with self._making(self._pending(purpose)) as directory:
            _write(directory / KEY, new.key_pem)
            _write(directory / CSR, new.csr_pem.encode())
            _write(directory / REQUEST, json.dumps(request).encode())
        return new

    def forget(self, purpose: str) -> None:
        """Remove the request that waits."""
        directory = self._pending(purpose)
        if directory.exists():
            leaving = self.path / f"{TEMPORARY}forgotten"
            _remove(leaving)
            directory.rename(leaving)
            _remove(leaving)

    def _pending(self, purpose: str) -> Path:
        return self.path / f"pending-{purpose.partition(':')[0]}"

    def install(self, pending: Pending, certificate_pem: str) -> Current:
        """Make an answered request the certificate in use: steps 2 to 4.

        Raises ValueError where the certificate is not the key's.
        """
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        if _der(certificate) != pending.public_key:
            raise ValueError("the certificate is for another key")
        leaf = certificate.public_bytes(Encoding.PEM)
        version = self._versions / certificate.fingerprint(SHA256()).hex()[:32]
        if not version.is_dir():  # 2
            with self._making(version) as directory:
                _write(directory / KEY, pending.key_pem)
                _write(directory / CERTIFICATE, leaf, 0o644)
                _write(directory / BOTH, pending.key_pem + leaf)
        previous = self.current()
        self._swap(version)  # 3
        with contextlib.suppress(OSError):  # 4: what stays does no harm
            if pending.purpose == RENEWAL:
                self.forget(RENEWAL)
            self._prune(version, previous.path if previous else version)
        current = self.current()
        assert current is not None  # noqa: S101 - it was made just now
        return current

    @contextlib.contextmanager
    def _making(self, directory: Path) -> Iterator[Path]:
        """Lend a directory that gets its name once it is whole and on the disk."""
        temporary = directory.with_name(f"{TEMPORARY}{directory.name}")
        _remove(temporary)
        temporary.mkdir(mode=0o755)
        try:
            yield temporary
            _sync(temporary)
            temporary.rename(directory)
        except BaseException:
            _remove(temporary)
            raise
        _sync(directory.parent)

    def _swap(self, version: Path) -> None:
        temporary = self.path / f"{TEMPORARY}current"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(version.relative_to(self.path))
        temporary.replace(self._current)
        _sync(self.path)

    def _prune(self, *kept: Path) -> None:
        for version in self._versions.iterdir():
            if version not in kept:
                _remove(version)

    # --- Secrets and the hook -------------------------------------------------------------------

    def write_secrets(self, secrets: dict[str, Any]) -> bool:
        """Keep an instance's secrets; return whether they are others than before."""
        content = json.dumps(secrets, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
            if self.secrets.read_text() == content:
                return False
        write_private(self.secrets, content)
        return True

    def contents(self) -> str:
        """Return a name for what the hook has to be run for: certificate and secrets."""
        current = self.current()
        digest = hashlib.sha256(current.fingerprint.encode() if current else b"")
        with contextlib.suppress(FileNotFoundError):
            digest.update(self.secrets.read_bytes())
        return digest.hexdigest()

    def deployed(self) -> str:
        """Return what the hook has succeeded for."""
        try:
            return self._deployed.read_text().strip()
        except FileNotFoundError:
            return ""

    def write_deployed(self, contents: str) -> None:
        """Note that the hook has succeeded."""
        write_private(self._deployed, contents + "\n")


def _new_request(purpose: str) -> Pending:
    """Make a P-256 key and its CSR; the platform takes nothing but the key from it."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, SHA256())
    return Pending(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        csr.public_bytes(Encoding.PEM).decode(),
        str(uuid7()),
        purpose,
    )


def _public_half(key_pem: bytes) -> bytes:
    key = load_pem_private_key(key_pem, None)
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
