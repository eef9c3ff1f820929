"""Plain-SQL migrations: applied in order, once, under an advisory lock, by `certwire migrate`.

A service's schema is `shared/migrations/*.sql` and then `services/<name>/migrations/*.sql`. Why
this is not a library: docs/decisions/migrations.md.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from shared.database import Connection

ROOT: Final = Path(__file__).resolve().parents[2]
LOCK_KEY: Final = 0x6365727477697265  # "certwire"


class MigrationError(Exception):
    """The schema and the files do not belong together; the text says how."""


@dataclass(frozen=True)
class Migration:
    """One file; `name` is `<origin>/<file name>`."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the text in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations_of(service: str) -> list[Migration]:
    """Return the migrations of a service's schema, in order."""
    folders = (
        ("shared", ROOT / "shared" / "migrations"),
        (service, ROOT / "services" / service / "migrations"),
    )
    return [
        Migration(f"{origin}/{file.stem}", file.read_text())
        for origin, folder in folders
        for file in sorted(folder.glob("*.sql"))
    ]


async def migrate(connection: Connection, service: str) -> list[str]:
    """Bring the schema of `service` up to date; return the names of what was applied.

    Each file is one transaction. Raises `MigrationError` for a file that changed after it was
    applied, and for a schema that is newer than the files.
    """
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
    try:
        await connection.execute(f"SET search_path = {service}")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {
            row["name"]: row["checksum"]
            for row in await connection.fetch("SELECT name, checksum FROM migration")
        }
        known = migrations_of(service)
        _compare(service, applied, known)
        missing = [migration for migration in known if migration.name not in applied]
        for migration in missing:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO migration (name, checksum) VALUES ($1, $2)",
                    migration.name,
                    migration.checksum,
                )
        return [migration.name for migration in missing]
    finally:
        await connection.execute("RESET search_path")
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK_KEY)


def _compare(service: str, applied: dict[str, str], known: list[Migration]) -> None:
    unknown = applied.keys() - {migration.name for migration in known}
    if unknown:
        raise MigrationError(f"schema {service} is newer than this version: {sorted(unknown)}")
    for migration in known:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise MigrationError(f"{migration.name} was changed after it was applied")


async def schema_problem(connection: Connection, service: str) -> str | None:
    """Return why the service cannot work on the schema as it is, or None."""
    try:
        rows = await connection.fetch("SELECT name FROM migration")
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
        return "the schema is not migrated"
    applied = {row["name"] for row in rows}
    known = {migration.name for migration in migrations_of(service)}
    if known - applied:
        return "the schema is older than this version: run `certwire migrate`"
    if applied - known:
        return "the schema is newer than this version"
    return None
