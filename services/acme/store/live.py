"""Certificates as the live directories have them, and which of them have changed.

Those of staging are not among them.
"""

from dataclasses import dataclass
from typing import Final

from shared.database import Connection


@dataclass(frozen=True, slots=True)
class Position:
    """How far changes have been seen: by their transaction, then by id."""

    transaction: int
    id: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """A domain whose certificate may be another.

    It `is_settled` when no earlier change can appear any more: all transactions that began before
    its own have ended.
    """

    position: Position
    domain: str
    is_settled: bool


@dataclass(frozen=True, slots=True)
class Version:
    """Which certificate a domain has; `version` is what `shared.live_directory` calls so."""

    id: int
    domain: str
    version: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What the files are made of."""

    id: int
    chain_pem: str
    sealed_key: bytes


_HERE: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
CHANGES: Final = """
SELECT transaction::text::bigint AS transaction, id, domain,
    transaction < pg_snapshot_xmin(pg_current_snapshot()) AS is_settled
FROM certificate_change
WHERE (transaction, id) > ($1::text::xid8, $2)
ORDER BY certificate_change.transaction, id LIMIT $3
"""
VERSIONS: Final = """
SELECT id, domain, left(encode(sha256(convert_to(chain_pem, 'UTF8')), 'hex'), 32) AS version
FROM certificate WHERE NOT staging AND id > $1 ORDER BY id LIMIT $2
"""
KEPT: Final = """
SELECT id, chain_pem, sealed_key FROM certificate
WHERE domain = $1 AND NOT staging ORDER BY id DESC LIMIT 1
"""
_PRUNE: Final = (
    "DELETE FROM certificate_change WHERE changed_at < now() - make_interval(days => $1)"
)


async def here(connection: Connection) -> Position:
    """Return the position before which every change is visible to whoever looks from now on."""
    return Position(await connection.fetchval(_HERE))


async def changes(connection: Connection, after: Position, limit: int) -> list[Change]:
    """Return what has changed, settled changes first."""
    rows = await connection.fetch(CHANGES, str(after.transaction), after.id, limit)
    return [
        Change(Position(row["transaction"], row["id"]), row["domain"], row["is_settled"])
        for row in rows
    ]


async def versions(connection: Connection, after: int, limit: int) -> list[Version]:
    """Return certificates after an id, in its order."""
    return [Version(*row) for row in await connection.fetch(VERSIONS, after, limit)]


async def kept(connection: Connection, domain: str) -> Kept | None:
    """Return a domain's certificate."""
    row = await connection.fetchrow(KEPT, domain)
    return Kept(*row) if row is not None else None


async def prune(connection: Connection, days: int) -> None:
    """Forget changes that everybody has seen."""
    await connection.execute(_PRUNE, days)
