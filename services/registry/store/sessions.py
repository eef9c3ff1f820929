"""Logins and the sessions that they make, by the database's clock."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from contracts.principal import Principal, Role
from services.registry.domain.sessions import (
    ACCESS_MINUTES,
    REFRESH_HOURS,
    WINDOW_SECONDS,
    Flags,
    RefreshState,
    user_principal,
)
from shared.database import Connection

# One row an address holds its logins of the last minute, so that one conditional statement decides
# both limits, and two logins at once decide one after the other.
_ADMIT: Final = """
INSERT INTO login_window AS w (address, usernames, times, last_at)
VALUES ($1, ARRAY[$2::text], ARRAY[clock_timestamp()], clock_timestamp())
ON CONFLICT (address) DO UPDATE SET (usernames, times, last_at) = (
    SELECT coalesce(array_agg(username), '{}') || $2, coalesce(array_agg(at), '{}')
        || clock_timestamp(), clock_timestamp()
    FROM unnest(w.usernames, w.times) AS login (username, at)
    WHERE at > clock_timestamp() - make_interval(secs => $5)
)
WHERE (
    SELECT count(*) < $4 AND count(*) FILTER (WHERE username = $2) < $3
    FROM unnest(w.usernames, w.times) AS login (username, at)
    WHERE at > clock_timestamp() - make_interval(secs => $5)
)
RETURNING true
"""
_WAIT: Final = """
SELECT ceil($5 - extract(epoch FROM clock_timestamp() - max(at)))::int
FROM (
    SELECT username, at, row_number() OVER (ORDER BY at DESC) AS newest,
        row_number() OVER (PARTITION BY username ORDER BY at DESC) AS newest_of_user
    FROM login_window, unnest(usernames, times) AS login (username, at) WHERE address = $1
) AS login
WHERE newest = $4 OR (username = $2 AND newest_of_user = $3)
"""
# Whoever changes the password waits for this, and then sees the session that has to end.
_INSERT: Final = """
WITH owner AS (
    SELECT id, username, role, organization_id, can_create_ca, can_create_cert, can_revoke_cert,
        can_export_private_key, can_delete_ca
    FROM users WHERE id = $4 AND password_hash = $5 AND is_active FOR SHARE
), added AS (
    INSERT INTO session
        (access_hash, refresh_hash, family, user_id, access_expires_at, refresh_expires_at)
    SELECT $1, $2, $3, id, now() + make_interval(mins => $6), now() + make_interval(hours => $7)
    FROM owner
    RETURNING access_expires_at
)
SELECT owner.*, access_expires_at FROM owner, added
"""
# A user's sessions are changed by whoever has the user's row: nobody waits for a session's alone.
_LOCK_USER: Final = "SELECT true FROM users WHERE id = $1 FOR NO KEY UPDATE"
_LOCK_HOLDER: Final = """
SELECT users.id, username, role, organization_id, can_create_ca, can_create_cert, can_revoke_cert,
    can_export_private_key, can_delete_ca
FROM session JOIN users ON users.id = user_id
WHERE refresh_hash = $1
FOR NO KEY UPDATE OF users
"""
_HOLDER: Final = "SELECT user_id FROM session WHERE refresh_hash = $1"
_SPEND: Final = """
WITH spent AS (
    UPDATE session SET refreshed_at = now()
    FROM users
    WHERE refresh_hash = $1 AND refreshed_at IS NULL AND revoked_at IS NULL
        AND refresh_expires_at > now() AND users.id = user_id AND is_active
    RETURNING family, user_id
)
INSERT INTO session
    (access_hash, refresh_hash, family, user_id, access_expires_at, refresh_expires_at)
SELECT $2, $3, family, user_id, now() + make_interval(mins => $4),
    now() + make_interval(hours => $5)
FROM spent
RETURNING access_expires_at
"""
_REFRESH_STATE: Final = """
SELECT CASE WHEN refreshed_at IS NOT NULL THEN 'spent' WHEN revoked_at IS NOT NULL THEN 'ended'
    ELSE 'expired' END
FROM session WHERE refresh_hash = $1
"""
_END_FAMILIES: Final = """
UPDATE session SET revoked_at = now()
WHERE user_id = $1 AND revoked_at IS NULL AND refresh_expires_at > now()
    AND family IN (SELECT family FROM session WHERE access_hash = $2 OR refresh_hash = $3)
RETURNING true
"""
_END_ALL: Final = """
UPDATE session SET revoked_at = now()
WHERE user_id = $1 AND revoked_at IS NULL AND refresh_expires_at > now()
RETURNING true
"""
_PRUNE_SESSIONS: Final = "DELETE FROM session WHERE refresh_expires_at < now() - interval '1 day'"
_PRUNE_WINDOWS: Final = """
DELETE FROM login_window WHERE last_at < now() - make_interval(secs => $1)
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many logins a minute are let through."""

    of_user: int
    of_address: int


async def admit_login(connection: Connection, address: str, username: str, limits: Limits) -> bool:
    """Count a login and return True, or return False where a limit is reached."""
    admitted = await connection.fetchval(
        _ADMIT, address, username, limits.of_user, limits.of_address, float(WINDOW_SECONDS)
    )
    return bool(admitted)


async def login_wait_seconds(
    connection: Connection, address: str, username: str, limits: Limits
) -> int:
    """Return for how long no login will be let through."""
    wait = await connection.fetchval(
        _WAIT, address, username, limits.of_user, limits.of_address, WINDOW_SECONDS
    )
    return max(1, wait or 1)


async def insert(
    connection: Connection,
    access_hash: str,
    refresh_hash: str,
    family: UUID,
    user_id: int,
    password_hash: str,
) -> tuple[Principal, datetime] | None:
    """Add a session; return whose it is and when the access token ends.

    None where the user was deactivated, or got another password, since it was verified.
    """
    row = await connection.fetchrow(
        _INSERT,
        access_hash,
        refresh_hash,
        family,
        user_id,
        password_hash,
        ACCESS_MINUTES,
        REFRESH_HOURS,
    )
    return (principal_of_user(row), row["access_expires_at"]) if row is not None else None


async def lock_user(connection: Connection, user_id: int) -> None:
    """Let nobody else make or end sessions of the user until the transaction ends."""
    await connection.execute(_LOCK_USER, user_id)


async def lock_holder(connection: Connection, refresh_hash: str) -> Principal | None:
    """Return whose refresh token it is, the user locked; None for nobody's."""
    row = await connection.fetchrow(_LOCK_HOLDER, refresh_hash)
    return principal_of_user(row) if row is not None else None


async def holder(connection: Connection, refresh_hash: str) -> int | None:
    """Return the id of the user whose refresh token it is; None for nobody's."""
    value: int | None = await connection.fetchval(_HOLDER, refresh_hash)
    return value


async def spend(
    connection: Connection, refresh_hash: str, next_access_hash: str, next_refresh_hash: str
) -> datetime | None:
    """Exchange a refresh token for the next pair; return when the access token ends.

    None where the token does not count any more, or its user does not.
    """
    value: datetime | None = await connection.fetchval(
        _SPEND, refresh_hash, next_access_hash, next_refresh_hash, ACCESS_MINUTES, REFRESH_HOURS
    )
    return value


async def refresh_state(connection: Connection, refresh_hash: str) -> RefreshState:
    """Return why a refresh token that is known does not count."""
    return RefreshState(await connection.fetchval(_REFRESH_STATE, refresh_hash))


async def end_families(
    connection: Connection, user_id: int, access_hash: str | None, refresh_hash: str | None
) -> int:
    """End the user's sessions that descend from the same logins; return how many there were."""
    return len(await connection.fetch(_END_FAMILIES, user_id, access_hash, refresh_hash))


async def end_all(connection: Connection, user_id: int) -> int:
    """End all sessions of a user; return how many there were."""
    return len(await connection.fetch(_END_ALL, user_id))


def principal_of_user(row: asyncpg.Record) -> Principal:
    """Return the principal in a row that has the columns of a user."""
    return user_principal(
        row["id"],
        row["username"],
        Role(row["role"]),
        row["organization_id"],
        Flags(
            create_ca=row["can_create_ca"],
            create_cert=row["can_create_cert"],
            revoke_cert=row["can_revoke_cert"],
            export_private_key=row["can_export_private_key"],
            delete_ca=row["can_delete_ca"],
        ),
    )


async def prune(connection: Connection) -> None:
    """Forget sessions that are over, and the logins of addresses that stay away."""
    await connection.execute(_PRUNE_SESSIONS)
    await connection.execute(_PRUNE_WINDOWS, float(WINDOW_SECONDS))
