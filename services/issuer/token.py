"""Keys in a PKCS #11 token, which sign there and never leave it.

A process of its own talks to the module (`token_worker`), so nothing that the module does harms the
issuer. All calls block; `Authority.working` takes them off the event loop.

1. A call goes to an idle process, else to a new one, which opens a session and logs in.
2. What fails in a process that was there before is tried once more in a new one: a session that was
   lost, or a token that was away, is found again so.
3. What fails then is a `TokenError`. The next second's calls fail at once, rather than wait in line
   for a token that is away; a PIN that was refused is not tried again, for tokens count and lock.
"""

import hashlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from services.issuer.keys import HASHES, KeyAlgorithm
from shared.x509 import PublicKey

PATIENCE_SECONDS: Final = 10.0
"""For a signature, which takes milliseconds, over a network too."""
GENERATION_SECONDS: Final = 120.0
"""For a key: large RSA keys take tokens as long as anybody."""
AWAY_SECONDS: Final = 1.0
MOST_SESSIONS: Final = 4
"""Processes with a session each; more calls at a time wait for one of them."""
SHA256_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""RFC 8017 section 9.2, note 1: what stands before the digest in an RSA signature."""


class TokenError(Exception):
    """The token does not do it; the text is for operators and holds no secret."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key in a token. Its public half is a certificate's, or was told when it was made."""

    token: "Token"
    key_id: bytes
    public: PublicKey

    def public_key(self) -> PublicKey:
        """Return the public half."""
        return self.public

    def sign(self, data: bytes) -> bytes:
        """Sign as `encoding.signature_algorithm` says of the key. Raises `TokenError`.

        The signature is verified: a token that has another key under the id signs nothing.
        """
        if isinstance(self.public, ec.EllipticCurvePublicKey):
            algorithm = HASHES[self.public.curve.name]
            raw = self.token.sign(self.key_id, "ECDSA", _digest(algorithm, data))
            middle = len(raw) // 2
            halves = int.from_bytes(raw[:middle]), int.from_bytes(raw[middle:])
            signature = encode_dss_signature(*halves)
        elif isinstance(self.public, rsa.RSAPublicKey):
            digest_info = SHA256_DIGEST_INFO + _digest(hashes.SHA256(), data)
            signature = self.token.sign(self.key_id, "RSA_PKCS", digest_info)
        else:
            signature = self.token.sign(self.key_id, "EDDSA", data)
        try:
            _verify(self.public, signature, data)
        except InvalidSignature:
            raise TokenError("the token's key is not the one of the certificate") from None
        return signature


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    return hashlib.new(algorithm.name, data).digest()


def _verify(key: PublicKey, signature: bytes, data: bytes) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, data, ec.ECDSA(HASHES[key.curve.name]))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    else:
        key.verify(signature, data)


class Token:
    """A token by the path of its module and its label; every call raises `TokenError`."""

    def __init__(self, module: Path, label: str, pin_file: Path) -> None:
        self._module, self._label, self._pin_file = module, label, pin_file
        self._idle: list[_Session] = []
        self._room = BoundedSemaphore(MOST_SESSIONS)
        self._opening = Lock()  # SoftHSM does not always find a token that another process opens
        self._away_until = 0.0
        self._away = ""
        self._refused_pin: str | None = None

    def sign(self, key_id: bytes, mechanism: str, data: bytes) -> bytes:
        """Return a signature in PKCS #11's own form."""
        return self._call(do="sign", key_id=key_id.hex(), mechanism=mechanism, data=data.hex())

    def find(self, key_id: bytes) -> None:
        """Make sure that the token is there and has the key."""
        self._call(do="find", key_id=key_id.hex())

    def generate(self, key_id: bytes, label: str, algorithm: KeyAlgorithm) -> TokenKey:
        """Make a key in the token; in a process of its own, for nobody else should wait so long."""
        with self._opened() as session:
            der = session.ask(
                GENERATION_SECONDS,
                do="generate",
                key_id=key_id.hex(),
                label=label,
                key_type=algorithm.key_type,
                key_size=algorithm.key_size,
            )
        public: PublicKey = load_der_public_key(der)  # type: ignore[assignment]  # of our types
        return TokenKey(self, key_id, public)

    def close(self) -> None:
        """End all processes."""
        while (session := self._waiting()) is not None:
            session.close()

    def _call(self, **request: object) -> bytes:
        with self._room:
            session = self._waiting()
            if session is not None:  # 1
                try:
                    return self._kept(session, request)
                except TokenError:
                    self.close()  # the others were opened before it went, too
            return self._kept(self._open(), request)  # 2

    def _waiting(self) -> "_Session | None":
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _kept(self, session: "_Session", request: dict[str, object]) -> bytes:
        try:
            result = session.ask(PATIENCE_SECONDS, **request)
        except BaseException:
            session.close()
            raise
        self._idle.append(session)
        return result

    @contextmanager
    def _opened(self) -> Iterator["_Session"]:
        session = self._open()
        try:
            yield session
        finally:
            session.close()

    def _open(self) -> "_Session":
        with self._opening:
            return self._new_session()

    def _new_session(self) -> "_Session":  # 3
        if time.monotonic() < self._away_until:
            raise TokenError(self._away)
        try:
            pin = self._pin_file.read_text().strip()
        except OSError as error:
            raise TokenError(f"the PIN is not in {self._pin_file.name}") from error
        if pin == self._refused_pin:
            raise TokenError("the token has refused its PIN")
        try:
            return _Session(str(self._module), self._label, pin)
        except TokenError as error:
            if isinstance(error, _PinRefusedError):
                self._refused_pin = pin
            self._away, self._away_until = str(error), time.monotonic() + AWAY_SECONDS
            raise


class _PinRefusedError(TokenError):
    """Trying again would lock the token."""


class _Session:
    """A process with a session, used by one caller at a time."""

    def __init__(self, module: str, label: str, pin: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.issuer.token_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        try:
            self._ask(PATIENCE_SECONDS, {"module": module, "label": label, "pin": pin})
        except BaseException:
            self.close()
            raise

    def ask(self, seconds: float, **request: object) -> bytes:
        """Return the answer to a request. Raises `TokenError`; then the process is of no use."""
        return bytes.fromhex(self._ask(seconds, request)["result"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, seconds: float, request: dict[str, object]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout  # noqa: S101, PT018 - they are pipes
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            line = _line(self._process.stdout.fileno(), time.monotonic() + seconds)
        except (OSError, EOFError) as error:
            raise TokenError(f"the module's process: {error!r}") from error
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            kind = _PinRefusedError if reply["pin_refused"] else TokenError
            raise kind(f"the token: {reply['error']}")
        return reply


def _line(descriptor: int, deadline: float) -> bytes:
    """Read a line. Raises TimeoutError where none comes in time, EOFError where none will."""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        if not (more := os.read(descriptor, 65_536)):
            raise EOFError
        line += more
    return line
