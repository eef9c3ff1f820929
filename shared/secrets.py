"""Envelope encryption: AES-256-GCM data keys wrapped by a key-encryption key.

A sealed value is `version (1) | key id (8) | wrapped data key (60) | nonce (12) | ciphertext`. The
associated data names the row that the value belongs to, so that it opens nowhere else.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION: Final = b"\x01"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_WRAPPED_BYTES: Final = NONCE_BYTES + KEY_BYTES + 16
_HEADER_BYTES: Final = 1 + 8 + _WRAPPED_BYTES + NONCE_BYTES


class UnsealError(Exception):
    """The value does not open: another key, another row, or tampering."""


class Sealer:
    """Seals with the first key-encryption key, opens with any of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError("a key-encryption key has 32 bytes")
        self._keys = {_key_id(key): AESGCM(key) for key in keys}
        self._current = _key_id(keys[0])

    @classmethod
    def from_text(cls, text: str) -> "Sealer":
        """Read keys in base64, one a line, the current one first. Raises ValueError."""
        try:
            return cls([base64.b64decode(line, validate=True) for line in text.split()])
        except binascii.Error as error:
            raise ValueError("a key-encryption key is 32 bytes in base64") from error

    def seal(self, plaintext: bytes, row: str) -> bytes:
        """Return the sealed value, bound to `row`, such as `issuer.ca.private_key:3`."""
        data_key, associated = os.urandom(KEY_BYTES), row.encode()
        wrap_nonce, nonce = os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)
        wrapped = self._keys[self._current].encrypt(wrap_nonce, data_key, associated)
        ciphertext = AESGCM(data_key).encrypt(nonce, plaintext, associated)
        return VERSION + self._current + wrap_nonce + wrapped + nonce + ciphertext

    def open(self, sealed: bytes, row: str) -> bytes:
        """Return the plaintext. Raises `UnsealError`."""
        if len(sealed) < _HEADER_BYTES or sealed[:1] != VERSION:
            raise UnsealError("not a sealed value of this version")
        key = self._keys.get(sealed[1:9])
        if key is None:
            raise UnsealError("sealed under an unknown key-encryption key")
        wrapped, rest = sealed[9 : 9 + _WRAPPED_BYTES], sealed[9 + _WRAPPED_BYTES :]
        try:
            data_key = key.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], row.encode())
            return AESGCM(data_key).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], row.encode())
        except InvalidTag:
            raise UnsealError("the sealed value does not belong here") from None


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"certwire key id" + key).digest()[:8]


def new_key() -> str:
    """Return a new key-encryption key in base64."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def token_hash(token: str) -> str:
    """Return the hash under which a random token is stored (256 bits need no stretching)."""
    return hashlib.sha256(token.encode()).hexdigest()
