"""Enrolment tokens, and the attempts with unknown ones; by the database's clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.database import Connection

TOKEN_LIFETIME: Final = timedelta(minutes=10)
"""The portlama specification's number."""
KEPT: Final = timedelta(days=30)
"""How long a spent or expired token is told apart from an unknown one."""
ATTEMPT_WINDOW: Final = timedelta(minutes=1)

_EXPIRE: Final = """
UPDATE enrollment_token SET state = 'expired'
WHERE label = $1 AND state = 'pending' AND expires_at <= now()
"""
_INSERT: Final = """
INSERT INTO enrollment_token (hash, label, capabilities, allowed_sites, expires_at)
VALUES ($1, $2, $3, $4, now() + $5::interval)
ON CONFLICT (label) WHERE state = 'pending' DO NOTHING
RETURNING expires_at
"""
_CANCEL: Final = """
DELETE FROM enrollment_token WHERE label = $1 AND state = 'pending' AND expires_at > now()
RETURNING true
"""
_LOCK: Final = "SELECT true FROM enrollment_token WHERE hash = $1 FOR UPDATE"
_GET: Final = """
SELECT label, capabilities, allowed_sites, token.state = 'consumed' AS consumed,
    claim.state IS NOT DISTINCT FROM 'pending' AS claimed, expires_at <= now() AS expired
FROM enrollment_token AS token LEFT JOIN claim ON claim.id = token.claim_id
WHERE hash = $1
"""
_HOLD: Final = "UPDATE enrollment_token SET claim_id = $2 WHERE hash = $1"
_CONSUME: Final = """
UPDATE enrollment_token SET state = 'consumed'
WHERE hash = $1 AND claim_id = $2 AND state <> 'consumed'
RETURNING true
"""
_WAIT: Final = """
SELECT ceil(extract(epoch FROM window_began + $3::interval - now()))::int
FROM enrollment_attempt
WHERE address = $1 AND failures >= $2 AND window_began > now() - $3::interval
"""
_COUNT_FAILURE: Final = """
INSERT INTO enrollment_attempt AS a (address, window_began, failures) VALUES ($1, now(), 1)
ON CONFLICT (address) DO UPDATE SET
    failures = CASE WHEN a.window_began > now() - $2::interval THEN a.failures + 1 ELSE 1 END,
    window_began = CASE WHEN a.window_began > now() - $2::interval THEN a.window_began
        ELSE now() END
"""
_PRUNE_TOKENS: Final = "DELETE FROM enrollment_token WHERE expires_at < now() - $1::interval"
_PRUNE_ATTEMPTS: Final = "DELETE FROM enrollment_attempt WHERE window_began < now() - $1::interval"


@dataclass(frozen=True, slots=True)
class Token:
    """A token that is known. `claimed`: a certificate is being signed for it."""

    label: str
    capabilities: tuple[str, ...]
    allowed_sites: tuple[str, ...]
    consumed: bool
    claimed: bool
    expired: bool


async def insert(
    connection: Connection,
    token_hash: str,
    label: str,
    capabilities: Sequence[str],
    allowed_sites: Sequence[str],
) -> datetime | None:
    """Add a pending token and return when it expires; None where the label has one."""
    await connection.execute(_EXPIRE, label)
    value: datetime | None = await connection.fetchval(
        _INSERT, token_hash, label, capabilities, allowed_sites, TOKEN_LIFETIME
    )
    return value


async def cancel(connection: Connection, label: str) -> bool:
    """Forget the label's pending token; False where there is none."""
    return bool(await connection.fetchval(_CANCEL, label))


async def lock(connection: Connection, token_hash: str) -> Token | None:
    """Return a token, ours until the transaction ends; None for an unknown one.

    Two queries: the second sees what was committed while the first waited.
    """
    await connection.execute(_LOCK, token_hash)
    row = await connection.fetchrow(_GET, token_hash)
    if row is None:
        return None
    return Token(
        row["label"],
        tuple(row["capabilities"]),
        tuple(row["allowed_sites"]),
        consumed=row["consumed"],
        claimed=row["claimed"],
        expired=row["expired"],
    )


async def hold(connection: Connection, token_hash: str, claim_id: UUID) -> None:
    """Let a claim have the token for as long as it is pending."""
    await connection.execute(_HOLD, token_hash, claim_id)


async def consume(connection: Connection, token_hash: str, claim_id: UUID) -> bool:
    """Spend the token that the claim holds; False where it was cancelled meanwhile."""
    return bool(await connection.fetchval(_CONSUME, token_hash, claim_id))


async def wait_seconds(connection: Connection, address: str, per_minute: int) -> int | None:
    """Return how long the address has to wait for its failures to be forgotten, or None."""
    value: int | None = await connection.fetchval(_WAIT, address, per_minute, ATTEMPT_WINDOW)
    return value


async def count_failure(connection: Connection, address: str) -> None:
    """Count an unknown token against the address."""
    await connection.execute(_COUNT_FAILURE, address, ATTEMPT_WINDOW)


async def prune(connection: Connection) -> None:
    """Forget tokens that ended long ago, and windows that are over."""
    await connection.execute(_PRUNE_TOKENS, KEPT)
    await connection.execute(_PRUNE_ATTEMPTS, ATTEMPT_WINDOW)
