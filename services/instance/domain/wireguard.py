"""WireGuard public keys: 32 bytes (Curve25519) in canonical base64."""

import base64
import binascii
import hmac
from typing import Final

KEY_BYTES: Final = 32


def decode(text: str) -> bytes | None:
    """Return the key, or None for anything but the one canonical form of a non-zero key."""
    try:
        key = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(key) != KEY_BYTES or not any(key) or encode(key) != text:
        return None
    return key


def encode(key: bytes) -> str:
    """Return the canonical base64."""
    return base64.b64encode(key).decode()


def equal(registered: bytes, presented: bytes | None) -> bool:
    """Compare in constant time; what does not decode equals nothing."""
    return hmac.compare_digest(registered, presented or bytes(KEY_BYTES))
