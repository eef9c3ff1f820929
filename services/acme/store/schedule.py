"""Which certificates are due, and which CAs are to be asked when that is."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.database import Connection

# Those that end first go first: expired ones, then those that expire, then the others; but what has
# failed often goes last, else what never succeeds would use up what all may begin. Rows are locked
# after they are chosen, so that of however many are due only these few are sorted out.
DUE: Final = """
SELECT id FROM certificate
WHERE id = ANY(ARRAY(
    SELECT id FROM certificate WHERE renew_at <= now() AND staging = $1
    ORDER BY failures > 5, not_after LIMIT $2
)) AND renew_at <= now()
ORDER BY failures > 5, not_after FOR UPDATE SKIP LOCKED
"""
_NOT_BEGUN: Final = """
UPDATE certificate SET renew_at = now() + $2::interval, failures = failures + 1,
    last_renew_error = $3
WHERE id = $1
"""
_BEGUN: Final = "UPDATE certificate SET renew_at = now() + $2::interval WHERE id = $1"
CLAIM_ARI: Final = """
UPDATE certificate SET ari_check_at = now() + $1::interval
WHERE id IN (
    SELECT id FROM certificate WHERE ari_check_at <= now()
    ORDER BY ari_check_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING id, staging, ari_id
"""
_ARI_SAID: Final = """
UPDATE certificate SET ari_check_at = now() + $2::interval,
    renew_at = CASE
        WHEN renew_at IS NULL THEN NULL
        WHEN failures > 0 THEN renew_at
        WHEN renew_at BETWEEN $3 AND $4 THEN renew_at
        ELSE least($5::timestamptz, not_after - (not_after - not_before) / 10)
    END
WHERE id = $1
"""
_NO_ARI: Final = "UPDATE certificate SET ari_check_at = NULL WHERE id = $1"
_ARI_LATER: Final = "UPDATE certificate SET ari_check_at = now() + $2::interval WHERE id = $1"
SCHEDULE: Final = """
SELECT (SELECT min(renew_at) FROM certificate WHERE renew_at IS NOT NULL AND NOT staging),
    (SELECT max(ended_at) FROM acme_order WHERE kind = 'renew' AND ended_at IS NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class AriQuestion:
    """A certificate whose CA is to be asked when to renew it."""

    id: int
    staging: bool
    ari_id: str


async def due(connection: Connection, *, staging: bool, limit: int) -> list[int]:
    """Return the ids of certificates that are due, the most urgent first; they stay locked."""
    return [row["id"] for row in await connection.fetch(DUE, staging, limit)]


async def begun(connection: Connection, certificate_id: int, guard: timedelta) -> None:
    """Look at a certificate again after so long, should the order that goes on come to nothing."""
    await connection.execute(_BEGUN, certificate_id, guard)


async def not_begun(
    connection: Connection, certificate_id: int, again_in: timedelta, error: str
) -> None:
    """Say why a renewal cannot even begin, and try again later."""
    await connection.execute(_NOT_BEGUN, certificate_id, again_in, error)


async def claim_ari(connection: Connection, lease: timedelta, limit: int) -> list[AriQuestion]:
    """Take certificates whose CA is to be asked now; others take them after `lease`."""
    return [AriQuestion(*row) for row in await connection.fetch(CLAIM_ARI, lease, limit)]


async def ari_said(
    connection: Connection,
    certificate_id: int,
    again_in: timedelta,
    start: datetime,
    end: datetime,
    chosen: datetime,
) -> None:
    """Renew at the chosen time, unless that is within the window already, or is being retried.

    Whatever the CA says, it is before the last tenth of the certificate's life.
    """
    await connection.execute(_ARI_SAID, certificate_id, again_in, start, end, chosen)


async def no_ari(connection: Connection, certificate_id: int) -> None:
    """Ask no more: the CA does not say it."""
    await connection.execute(_NO_ARI, certificate_id)


async def ari_later(connection: Connection, certificate_id: int, again_in: timedelta) -> None:
    """Ask again later."""
    await connection.execute(_ARI_LATER, certificate_id, again_in)


async def schedule(connection: Connection) -> tuple[datetime | None, datetime | None]:
    """Return when the next certificate is due, and when a renewal ended last."""
    row = await connection.fetchrow(SCHEDULE)
    assert row is not None  # noqa: S101 - it selects one
    return row[0], row[1]
