"""Opaque cursors of paged lists."""

import base64
import binascii

from contracts.errors import CertwireError, ErrorCode


def encode(position: int | None) -> str | None:
    """Return where the next page begins, or None at the end."""
    if position is None:
        return None
    return base64.urlsafe_b64encode(position.to_bytes(8)).decode().rstrip("=")


def decode(cursor: str | None) -> int | None:
    """Return the position. Raises `INVALID_REQUEST` for what `encode` never made."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor.encode("ascii") + b"=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 8 or raw[0] & 0x80:  # noqa: PLR2004 - a signed bigint
        raise CertwireError(
            ErrorCode.INVALID_REQUEST,
            "the cursor is not one of this list",
            parameters={"field": "cursor"},
        )
    return int.from_bytes(raw)
