"""API keys."""

from typing import Final

import asyncpg

from contracts.api_keys import ApiKey, KeyPermissions
from contracts.principal import Principal, PrincipalKind
from shared.database import Connection

_INSERT: Final = """
INSERT INTO api_key (hash, name, projects, keys) VALUES ($1, $2, $3, $4)
RETURNING id, name, projects, keys, created_at
"""
PAGE: Final = """
SELECT id, name, projects, keys, created_at FROM api_key
WHERE deleted_at IS NULL AND id > $1 ORDER BY id LIMIT $2
"""
_DELETE: Final = """
UPDATE api_key SET deleted_at = clock_timestamp() WHERE id = $1 AND deleted_at IS NULL
RETURNING id, name, projects, keys, created_at
"""


async def insert(
    connection: Connection, secret_hash: str, name: str, permissions: KeyPermissions
) -> ApiKey:
    """Add a key."""
    row = await connection.fetchrow(
        _INSERT, secret_hash, name, permissions.projects, permissions.keys
    )
    assert row is not None  # noqa: S101 - it was added
    return _api_key(row)


async def page(connection: Connection, limit: int, after: int) -> list[ApiKey]:
    """Return keys that count, in the order of their creation."""
    return [_api_key(row) for row in await connection.fetch(PAGE, after, limit)]


async def delete(connection: Connection, api_key_id: int) -> ApiKey | None:
    """Make a key nobody's and return it as it was; None where none that counts has the id."""
    row = await connection.fetchrow(_DELETE, api_key_id)
    return _api_key(row) if row is not None else None


def principal_of_key(api_key_id: int, name: str, permissions: KeyPermissions) -> Principal:
    """Return the principal that a key stands for."""
    return Principal(
        kind=PrincipalKind.API_KEY,
        id=str(api_key_id),
        name=name,
        capabilities=permissions.capabilities(),
    )


def _api_key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        permissions=KeyPermissions(projects=row["projects"], keys=row["keys"]),
        created_at=row["created_at"],
    )
