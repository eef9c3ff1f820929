"""Accounts at CAs, and what all replicas know of a CA."""

from dataclasses import dataclass
from typing import Final

import asyncpg

from shared.database import Connection

_NEW_ID: Final = "SELECT nextval(pg_get_serial_sequence('account', 'id'))"
_FIND: Final = """
SELECT id, directory, email, sealed_key, url FROM account WHERE directory = $1 AND email = $2
"""
_GET: Final = "SELECT id, directory, email, sealed_key, url FROM account WHERE id = $1"
_INSERT: Final = """
INSERT INTO account (id, directory, email, sealed_key)
OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4)
ON CONFLICT (directory, email) DO NOTHING
RETURNING id, directory, email, sealed_key, url
"""
_REGISTERED: Final = "UPDATE account SET url = $2 WHERE id = $1"
_PAUSE: Final = """
INSERT INTO authority (directory, paused_until, pause_reason, renewals)
VALUES ($1, now() + make_interval(secs => $2), $3, $4)
ON CONFLICT (directory) DO UPDATE SET pause_reason = EXCLUDED.pause_reason,
    paused_until = greatest(authority.paused_until, EXCLUDED.paused_until)
"""
_PAUSED: Final = """
SELECT ceil(extract(epoch FROM paused_until - now()))::integer AS seconds, pause_reason
FROM authority WHERE directory = $1 AND paused_until > now()
"""
# The bucket holds an hour's worth, and fills evenly.
_LEND: Final = """
INSERT INTO authority AS bucket (directory, renewals) VALUES ($1, $2::double precision)
ON CONFLICT (directory) DO UPDATE SET counted_at = now(), renewals = least($2,
    bucket.renewals + $2 * extract(epoch FROM now() - bucket.counted_at) / 3600)
RETURNING floor(renewals)::integer AS renewals, coalesce(paused_until > now(), false) AS paused
"""
_TAKE: Final = "UPDATE authority SET renewals = renewals - $2 WHERE directory = $1"


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account; the CA has not confirmed it while it has no URL."""

    id: int
    directory: str
    email: str
    sealed_key: bytes
    url: str | None


async def new_id(connection: Connection) -> int:
    """Return the id of the account that is inserted next; its key is sealed for it."""
    number: int = await connection.fetchval(_NEW_ID)
    return number


async def find(connection: Connection, directory: str, email: str) -> AccountRow | None:
    """Return the account of an address at a CA."""
    return _account(await connection.fetchrow(_FIND, directory, email))


async def get(connection: Connection, account_id: int) -> AccountRow | None:
    """Return an account by its id."""
    return _account(await connection.fetchrow(_GET, account_id))


async def insert(
    connection: Connection, account_id: int, directory: str, email: str, sealed_key: bytes
) -> AccountRow | None:
    """Add an account; return None where another replica was first."""
    return _account(await connection.fetchrow(_INSERT, account_id, directory, email, sealed_key))


async def registered(connection: Connection, account_id: int, url: str | None) -> None:
    """Remember the URL that the CA gave an account, or that it knows it no longer."""
    await connection.execute(_REGISTERED, account_id, url)


async def pause(
    connection: Connection, directory: str, seconds: int, reason: str, per_hour: int
) -> None:
    """Begin nothing at a CA by ourselves for so long."""
    await connection.execute(_PAUSE, directory, float(seconds), reason, float(per_hour))


async def paused(connection: Connection, directory: str) -> tuple[int, str] | None:
    """Return for how many seconds a CA is left alone, and why; None where it is not."""
    row = await connection.fetchrow(_PAUSED, directory)
    return (row["seconds"], row["pause_reason"]) if row is not None else None


async def lend(connection: Connection, directory: str, per_hour: int) -> int:
    """Return how many renewals may begin at a CA now; its row stays locked for `take`."""
    row = await connection.fetchrow(_LEND, directory, float(per_hour))
    assert row is not None  # noqa: S101 - it is inserted where it was not
    return 0 if row["paused"] else max(0, row["renewals"])


async def take(connection: Connection, directory: str, count: int) -> None:
    """Count renewals that begin."""
    await connection.execute(_TAKE, directory, float(count))


def _account(row: asyncpg.Record | None) -> AccountRow | None:
    return AccountRow(*row) if row is not None else None
