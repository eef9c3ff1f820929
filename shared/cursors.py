"""Opaque cursors of paged lists."""

import base64
import binascii
from typing import Final

from contracts.errors import CertwireError, ErrorCode

SIGNED: Final = 2**63
"""Positions are bigints of Postgres, from 0."""


def encode(position: int | None) -> str | None:
    """Return where the next page begins, or None at the end."""
    return None if position is None else encode_all(position)


def decode(cursor: str | None) -> int | None:
    """Return the position. Raises `INVALID_REQUEST` for what `encode` never made."""
    if cursor is None:
        return None
    (position,) = decode_all(cursor, 1)
    return position


def encode_all(*positions: int) -> str:
    """Return where the next page of a list begins that has several columns for its order."""
    raw = b"".join(position.to_bytes(8) for position in positions)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_all(cursor: str, count: int) -> tuple[int, ...]:
    """Return so many positions. Raises `INVALID_REQUEST` for what `encode_all` never made."""
    try:
        padding = b"=" * (-len(cursor) % 4)
        raw = base64.b64decode(cursor.encode("ascii") + padding, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    positions = tuple(int.from_bytes(raw[at : at + 8]) for at in range(0, len(raw), 8))
    if len(raw) != 8 * count or any(position >= SIGNED for position in positions):
        raise CertwireError(
            ErrorCode.INVALID_REQUEST,
            "the cursor is not one of this list",
            parameters={"field": "cursor"},
        )
    return positions
