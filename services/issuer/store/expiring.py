"""Which certificates end, and for which of them that has been announced."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.database import Connection


@dataclass(frozen=True, slots=True)
class Mark:
    """Everything up to it has been announced: by the end of validity, then by id."""

    until: datetime
    id: int


@dataclass(frozen=True, slots=True)
class Ending:
    """What is told of a certificate that ends."""

    id: int
    fingerprint: str
    serial_hex: str
    kind: str
    owner_id: str
    issuer: str
    subject: str
    organization_id: int | None
    not_after: datetime


_DAYS: Final = "SELECT days FROM expiry ORDER BY days DESC"
_LOCK: Final = """
SELECT announced_until, announced_id FROM expiry WHERE days = $1 FOR UPDATE SKIP LOCKED
"""
# Of what is issued for fewer days than that, nobody has to be told so many days ahead.
ENDING: Final = """
SELECT certificate.id, certificate.fingerprint, serial_hex, certificate.kind, owner_id,
    ca.subject AS issuer, certificate.subject, certificate.organization_id, certificate.not_after
FROM certificate JOIN ca ON ca.id = certificate.ca_id
WHERE (certificate.not_after, certificate.id) > ($1, $2) AND certificate.not_after <= $3
    AND certificate.kind <> 'instance' AND certificate.kind = ANY($4::text[])
    AND revoked_at IS NULL
    AND certificate.not_after - certificate.created_at > make_interval(days => $5)
ORDER BY certificate.not_after, certificate.id LIMIT $6
"""
_MOVE: Final = "UPDATE expiry SET announced_until = $2, announced_id = $3 WHERE days = $1"


async def days_ahead(connection: Connection) -> list[int]:
    """Return how many days ahead it is announced, the most first; 0 days is the end itself."""
    return [row["days"] for row in await connection.fetch(_DAYS)]


async def lock(connection: Connection, days: int) -> Mark | None:
    """Return how far it has been announced, locked; None where another replica is at it."""
    row = await connection.fetchrow(_LOCK, days)
    return Mark(*row) if row is not None else None


async def ending(
    connection: Connection,
    mark: Mark,
    until: datetime,
    kinds: Sequence[str],
    days: int,
    limit: int,
) -> list[Ending]:
    """Return certificates after the mark that end by then, in order; no revoked ones."""
    rows = await connection.fetch(ENDING, mark.until, mark.id, until, kinds, days, limit)
    return [Ending(*row) for row in rows]


async def move(connection: Connection, days: int, mark: Mark) -> None:
    """Remember how far it has been announced."""
    await connection.execute(_MOVE, days, mark.until, mark.id)
