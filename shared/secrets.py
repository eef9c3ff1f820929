"""Envelope encryption: AES-256-GCM data keys wrapped by a key-encryption key.

A sealed value is `version (1) | key id (8) | wrapped data key (60) | nonce (12) | ciphertext`. The
associated data names the row that the value belongs to, so that it opens nowhere else.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION: Final = b"\x01"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_KEY_ID_END: Final = 1 + 8
_WRAP_BYTES: Final = _KEY_ID_END + NONCE_BYTES + KEY_BYTES + 16
_HEADER_BYTES: Final = _WRAP_BYTES + NONCE_BYTES
_ELSEWHERE: Final = "the sealed value does not belong here"


class UnsealError(Exception):
    """The value does not open: another key, another row, or tampering."""


class Sealer:
    """Seals with the first key-encryption key, opens with any of them.

    One that was made by `reading` reads its keys again for each value that it seals, and for one
    under a key that it does not know: keys are changed while services run.
    """

    def __init__(self, keys: Sequence[bytes], read: Callable[[], str] | None = None) -> None:
        self._ring = _Ring.of(keys)
        self._read = read

    @classmethod
    def from_text(cls, text: str) -> "Sealer":
        """Read keys in base64, one a line, the current one first. Raises ValueError."""
        return cls(_decoded(text))

    @classmethod
    def reading(cls, read: Callable[[], str]) -> "Sealer":
        """Return one that follows what `read` returns. Raises what it does, and ValueError."""
        return cls(_decoded(read()), read)

    @property
    def current(self) -> str:
        """Return the id of the key that seals, in hex."""
        return self._ring.current.hex()

    @property
    def known(self) -> tuple[str, ...]:
        """Return the ids of all keys, in hex."""
        return tuple(key.hex() for key in self._ring.keys)

    def reload(self) -> None:
        """Read the keys again; where they cannot be read, the known ones stay."""
        if self._read is not None:
            with suppress(OSError, ValueError):
                self._ring = _Ring.of(_decoded(self._read()))

    def seal(self, plaintext: bytes, row: str) -> bytes:
        """Return the sealed value, bound to `row`, such as `issuer.ca.sealed_key:3`."""
        self.reload()
        data_key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
        ciphertext = AESGCM(data_key).encrypt(nonce, plaintext, row.encode())
        return self._wrapped(data_key, row) + nonce + ciphertext

    def open(self, sealed: bytes, row: str) -> bytes:
        """Return the plaintext. Raises `UnsealError`."""
        data_key, rest = self._unwrapped(sealed, row), sealed[_WRAP_BYTES:]
        try:
            return AESGCM(data_key).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], row.encode())
        except InvalidTag:
            raise UnsealError(_ELSEWHERE) from None

    def rewrap(self, sealed: bytes, row: str) -> bytes:
        """Return the same value under the current key; its content is not opened.

        Raises `UnsealError`.
        """
        return self._wrapped(self._unwrapped(sealed, row), row) + sealed[_WRAP_BYTES:]

    def _wrapped(self, data_key: bytes, row: str) -> bytes:
        ring, nonce = self._ring, os.urandom(NONCE_BYTES)
        wrapped = ring.keys[ring.current].encrypt(nonce, data_key, row.encode())
        return VERSION + ring.current + nonce + wrapped

    def _unwrapped(self, sealed: bytes, row: str) -> bytes:
        if len(sealed) < _HEADER_BYTES or sealed[:1] != VERSION:
            raise UnsealError("not a sealed value of this version")
        key_id, wrapped = sealed[1:_KEY_ID_END], sealed[_KEY_ID_END:_WRAP_BYTES]
        if key_id not in self._ring.keys:
            self.reload()
        key = self._ring.keys.get(key_id)
        if key is None:
            raise UnsealError(f"the secret `kek` lacks the key {key_id.hex()} that it is under")
        try:
            return key.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], row.encode())
        except InvalidTag:
            raise UnsealError(_ELSEWHERE) from None


@dataclass(frozen=True, slots=True)
class _Ring:
    """Key-encryption keys by their ids, and which of them seals."""

    current: bytes
    keys: Mapping[bytes, AESGCM]

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> "_Ring":
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError("a key-encryption key has 32 bytes")
        return cls(_key_id(keys[0]), {_key_id(key): AESGCM(key) for key in keys})


def key_ids(text: str) -> list[str]:
    """Return the ids, in hex, of keys in base64, one a line. Raises ValueError."""
    return [_key_id(key).hex() for key in _decoded(text)]


def _decoded(text: str) -> list[bytes]:
    try:
        return [base64.b64decode(line, validate=True) for line in text.split()]
    except binascii.Error as error:
        raise ValueError("a key-encryption key is 32 bytes in base64") from error


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"certwire key id" + key).digest()[:8]


def new_key() -> str:
    """Return a new key-encryption key in base64."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def token_hash(token: str) -> str:
    """Return the hash under which a random token is stored (256 bits need no stretching)."""
    return hashlib.sha256(token.encode()).hexdigest()
