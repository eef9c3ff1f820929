"""What answers http-01 challenges."""

from typing import Final
from uuid import UUID

from shared.database import Connection

_INSERT: Final = """
INSERT INTO http_challenge (token, key_authorization, order_id, expires_at)
VALUES ($1, $2, $3, now() + make_interval(secs => $4))
ON CONFLICT (token) DO NOTHING
"""
_FIND: Final = """
SELECT key_authorization FROM http_challenge
WHERE token = $1 AND (expires_at IS NULL OR expires_at > now())
"""
_FORGET: Final = "DELETE FROM http_challenge WHERE token = $1 OR expires_at < now()"
_FORGET_OF_ORDER: Final = "DELETE FROM http_challenge WHERE order_id = $1"


async def insert(
    connection: Connection,
    token: str,
    key_authorization: str,
    order_id: UUID | None,
    seconds: float | None = None,
) -> None:
    """Answer a challenge from now on; one that is answered already is fine.

    One that is no order's is answered for some seconds.
    """
    await connection.execute(_INSERT, token, key_authorization, order_id, seconds)


async def find(connection: Connection, token: str) -> str | None:
    """Return the key authorization of a token (RFC 8555 section 8.3)."""
    found: str | None = await connection.fetchval(_FIND, token)
    return found


async def forget(connection: Connection, token: str) -> None:
    """Answer a challenge no longer, nor any that is past its time."""
    await connection.execute(_FORGET, token)


async def forget_of_order(connection: Connection, order_id: UUID) -> None:
    """Answer the challenges of an order no longer."""
    await connection.execute(_FORGET_OF_ORDER, order_id)
