"""Projects and their domains."""

from typing import Final

import asyncpg

from contracts.acme import Project, ProjectStatus
from shared.database import Connection

_INSERT: Final = """
INSERT INTO project (id, name, description) VALUES ($1, $2, $3)
ON CONFLICT (id) DO NOTHING
RETURNING id, name, description, domain, created_at, updated_at
"""
_GET: Final = """
SELECT id, name, description, domain, created_at, updated_at FROM project WHERE id = $1
"""
_LOCK: Final = """
SELECT id, name, description, domain, created_at, updated_at FROM project WHERE id = $1 FOR UPDATE
"""
_PIN: Final = "SELECT true FROM project WHERE id = $1 FOR KEY SHARE SKIP LOCKED"
PAGE: Final = """
SELECT position, id, name, description, domain, created_at, updated_at FROM project
WHERE position > $1 ORDER BY position LIMIT $2
"""
_OWNER: Final = "SELECT id FROM project WHERE domain = $1"
_SET_DOMAIN: Final = """
UPDATE project SET domain = $2, updated_at = clock_timestamp() WHERE id = $1
RETURNING id, name, description, domain, created_at, updated_at
"""
_DELETE: Final = "DELETE FROM project WHERE id = $1"


async def insert(
    connection: Connection, project_id: str, name: str, description: str | None
) -> Project | None:
    """Add a project; return None where there is one of the id."""
    row = await connection.fetchrow(_INSERT, project_id, name, description)
    return _project(row) if row is not None else None


async def find(connection: Connection, project_id: str) -> Project | None:
    """Return a project, None where there is none of the id."""
    row = await connection.fetchrow(_GET, project_id)
    return _project(row) if row is not None else None


async def lock(connection: Connection, project_id: str) -> Project | None:
    """Return a project, which nobody else changes until the transaction ends."""
    row = await connection.fetchrow(_LOCK, project_id)
    return _project(row) if row is not None else None


async def pin(connection: Connection, project_id: str) -> bool:
    """Keep a project until the transaction ends; return False where somebody is changing it.

    Whoever has locked its certificate already must not wait: others lock the project first.
    """
    return await connection.fetchval(_PIN, project_id) is not None


async def page(connection: Connection, after: int, limit: int) -> list[tuple[int, Project]]:
    """Return projects after a position, each with its own."""
    rows = await connection.fetch(PAGE, after, limit)
    return [(row["position"], _project(row)) for row in rows]


async def owner_of(connection: Connection, domain: str) -> str | None:
    """Return the id of the project that has the domain."""
    owner: str | None = await connection.fetchval(_OWNER, domain)
    return owner


async def set_domain(connection: Connection, project_id: str, domain: str | None) -> Project:
    """Give a project that exists another domain, or none.

    Raises `asyncpg.UniqueViolationError` where another project took it meanwhile.
    """
    row = await connection.fetchrow(_SET_DOMAIN, project_id, domain)
    assert row is not None  # noqa: S101 - it is locked
    return _project(row)


async def delete(connection: Connection, project_id: str) -> None:
    """Forget a project, and with it what belongs to it."""
    await connection.execute(_DELETE, project_id)


def _project(row: asyncpg.Record) -> Project:
    return Project(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        status=ProjectStatus.ACTIVE,
        domain=row["domain"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
