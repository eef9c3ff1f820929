"""Organisations."""

from typing import Final

import asyncpg

from contracts.users import Organization, OrganizationChanges
from shared.database import Connection

_INSERT: Final = """
INSERT INTO organization (name, description) VALUES ($1, $2)
RETURNING id, name, description, created_at, updated_at
"""
_TAKEN: Final = """
SELECT EXISTS (
    SELECT FROM organization
    WHERE lower(name) = lower($1) AND id IS DISTINCT FROM $2::bigint
)
"""
_GET: Final = """
SELECT id, name, description, created_at, updated_at FROM organization WHERE id = $1
"""
PAGE: Final = """
SELECT id, name, description, created_at, updated_at FROM organization
WHERE $1::bigint IS NULL OR id = $1 ORDER BY id OFFSET $2 LIMIT $3
"""
_CHANGE: Final = """
UPDATE organization SET name = coalesce($2, name), description = coalesce($3, description),
    updated_at = clock_timestamp()
WHERE id = $1
RETURNING id, name, description, created_at, updated_at
"""
_DELETE: Final = "DELETE FROM organization WHERE id = $1"


async def insert(connection: Connection, name: str, description: str | None) -> Organization:
    """Add an organisation."""
    return _organization(await connection.fetchrow(_INSERT, name, description))


async def is_taken(connection: Connection, name: str, by_others_than: int | None = None) -> bool:
    """Return whether another organisation has the name, in whatever case."""
    return bool(await connection.fetchval(_TAKEN, name, by_others_than))


async def find(connection: Connection, organization_id: int) -> Organization | None:
    """Return an organisation, None where there is none of the id."""
    row = await connection.fetchrow(_GET, organization_id)
    return _organization(row) if row is not None else None


async def page(
    connection: Connection, only: int | None, skip: int, limit: int
) -> list[Organization]:
    """Return organisations in the order of their ids; `only` one of them, or all."""
    rows = await connection.fetch(PAGE, only, skip, limit)
    return [_organization(row) for row in rows]


async def change(
    connection: Connection, organization_id: int, changes: OrganizationChanges
) -> Organization:
    """Change what is not None of an organisation that exists."""
    row = await connection.fetchrow(_CHANGE, organization_id, changes.name, changes.description)
    return _organization(row)


async def delete(connection: Connection, organization_id: int) -> None:
    """Forget an organisation without members."""
    await connection.execute(_DELETE, organization_id)


def _organization(row: asyncpg.Record | None) -> Organization:
    assert row is not None  # noqa: S101 - it exists
    return Organization.model_validate(dict(row))
