"""What users may do with one CA beside what role and flags allow."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.database import Connection


@dataclass(frozen=True, slots=True)
class Granted:
    """A row of `ca_grant`; the user is the registry's."""

    ca_id: int
    user_id: int
    capabilities: Sequence[str]
    created_at: datetime
    updated_at: datetime


_OF_CA: Final = """
SELECT ca_id, user_id, capabilities, created_at, updated_at
FROM ca_grant WHERE ca_id = $1 ORDER BY user_id OFFSET $2 LIMIT $3
"""
_OF_USER: Final = "SELECT capabilities FROM ca_grant WHERE ca_id = $1 AND user_id = $2"
_PUT: Final = """
INSERT INTO ca_grant (ca_id, user_id, capabilities) VALUES ($1, $2, $3)
ON CONFLICT (ca_id, user_id) DO UPDATE
    SET capabilities = EXCLUDED.capabilities, updated_at = now()
RETURNING ca_id, user_id, capabilities, created_at, updated_at
"""
_DELETE: Final = "DELETE FROM ca_grant WHERE ca_id = $1 AND user_id = $2 RETURNING true"
_COPY: Final = """
INSERT INTO ca_grant (ca_id, user_id, capabilities)
SELECT $2, user_id, capabilities FROM ca_grant WHERE ca_id = $1
"""


async def of_ca(connection: Connection, ca_id: int, *, skip: int, limit: int) -> list[Granted]:
    """Return a page of what has been granted on a CA, by user."""
    return [Granted(*row) for row in await connection.fetch(_OF_CA, ca_id, skip, limit)]


async def of_user(connection: Connection, ca_id: int, user_id: int) -> frozenset[str]:
    """Return what a user has been granted on a CA."""
    return frozenset(await connection.fetchval(_OF_USER, ca_id, user_id) or ())


async def put(
    connection: Connection, ca_id: int, user_id: int, capabilities: Sequence[str]
) -> Granted:
    """Grant a user exactly this."""
    row = await connection.fetchrow(_PUT, ca_id, user_id, capabilities)
    assert row is not None  # noqa: S101 - an upsert returns its row
    return Granted(*row)


async def delete(connection: Connection, ca_id: int, user_id: int) -> bool:
    """Take back what was granted; return whether there was anything."""
    return bool(await connection.fetchval(_DELETE, ca_id, user_id))


async def copy(connection: Connection, ca_id: int, successor_id: int) -> None:
    """Grant on the successor what was granted on a CA."""
    await connection.execute(_COPY, ca_id, successor_id)
