"""How certificates, orders and TXT records are as a whole: for metrics and for operators."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from contracts.acme import CertificateStatus, CertificateType
from services.acme.store.certificates import SOON_DAYS
from shared.database import Connection

# By status as `certificates` shows it: days are floored there.
CERTIFICATES: Final = """
SELECT type, staging,
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked'
        WHEN not_after <= now() THEN 'expired'
        WHEN not_after < now() + make_interval(days => $1 + 1) THEN 'expiring_soon'
        ELSE 'valid' END AS status,
    count(*) AS certificates, count(*) FILTER (WHERE failures > 0) AS failing
FROM certificate GROUP BY 1, 2, 3
"""
WAITING: Final = """
SELECT (SELECT count(*) FROM certificate WHERE renew_at <= now()) AS renewals,
    (SELECT count(*) FROM acme_order WHERE state = 'pending') AS orders,
    (SELECT count(*) FROM dns_record WHERE remove_at IS NOT NULL) AS records
"""
# The most urgent one is named.
FAILING: Final = """
SELECT count(*) OVER () AS certificates, domain, not_after, last_renew_error FROM certificate
WHERE not_after < now() + make_interval(days => $1) AND failures > 0 AND revoked_at IS NULL
    AND NOT staging
ORDER BY not_after, id LIMIT 1
"""
_PAUSED: Final = """
SELECT directory, pause_reason, paused_until FROM authority
WHERE paused_until > now() ORDER BY directory
"""
_STAYING: Final = """
SELECT count(*) OVER () AS records, name, provider FROM dns_record
WHERE remove_at IS NOT NULL AND attempts >= $1
ORDER BY created_at, id LIMIT 1
"""
_PENDING: Final = """
SELECT count(*) AS orders, min(created_at) AS oldest FROM acme_order WHERE state = 'pending'
"""


@dataclass(frozen=True, slots=True)
class Count:
    """So many certificates are like this; of `failing` ones the last renewal failed."""

    type: CertificateType
    staging: bool
    status: CertificateStatus
    certificates: int
    failing: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is to be done: due renewals, orders that go on, TXT records that are to be removed."""

    renewals: int
    orders: int
    records: int


@dataclass(frozen=True, slots=True)
class Failing:
    """Certificates that end soon and could not be renewed; the fields are about the first one."""

    certificates: int
    domain: str
    not_after: datetime
    error: str


@dataclass(frozen=True, slots=True)
class Paused:
    """A CA that is left alone, because it said so."""

    directory: str
    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Staying:
    """TXT records whose removal failed again and again; the fields are about the oldest one."""

    records: int
    name: str
    provider: str


@dataclass(frozen=True, slots=True)
class Pending:
    """Orders that go on, and since when the oldest one does."""

    orders: int
    since: datetime | None


async def certificates(connection: Connection) -> list[Count]:
    """Return how many certificates there are of each kind that there are any of."""
    return [
        Count(
            CertificateType(row["type"]),
            row["staging"],
            CertificateStatus(row["status"]),
            row["certificates"],
            row["failing"],
        )
        for row in await connection.fetch(CERTIFICATES, SOON_DAYS)
    ]


async def waiting(connection: Connection) -> Waiting:
    """Return how much is to be done now."""
    return Waiting(*_one(await connection.fetchrow(WAITING)))


async def failing(connection: Connection, days: int) -> Failing | None:
    """Return the certificates that end within so many days and whose renewal failed."""
    row = await connection.fetchrow(FAILING, days)
    if row is None:
        return None
    return Failing(
        row["certificates"], row["domain"], row["not_after"], row["last_renew_error"] or ""
    )


async def paused(connection: Connection) -> list[Paused]:
    """Return the CAs that are left alone now."""
    rows = await connection.fetch(_PAUSED)
    return [Paused(row["directory"], row["pause_reason"], row["paused_until"]) for row in rows]


async def staying(connection: Connection, attempts: int) -> Staying | None:
    """Return the TXT records that could not be removed in so many attempts."""
    row = await connection.fetchrow(_STAYING, attempts)
    return Staying(row["records"], row["name"], row["provider"]) if row is not None else None


async def pending(connection: Connection) -> Pending:
    """Return the orders that go on."""
    return Pending(*_one(await connection.fetchrow(_PENDING)))


def _one(row: asyncpg.Record | None) -> asyncpg.Record:
    assert row is not None  # noqa: S101 - it selects one
    return row
