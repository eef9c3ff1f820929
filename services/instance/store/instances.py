"""Instances, their tokens, their inventory and their secrets."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from contracts.instance import Instance, InstanceStatus, InventoryRow
from contracts.principal import Principal, PrincipalKind
from services.instance.domain import wireguard
from shared.database import Connection

TOKEN_LIFETIME: Final = timedelta(minutes=15)
REFRESH_WINDOW: Final = timedelta(hours=1)
ATTEMPT_WINDOW: Final = timedelta(minutes=1)
_INSERT: Final = """
INSERT INTO instance (id, name, status, wg_public_key, vpn_ip, secrets)
VALUES ($1, $2, 'pending', $3, $4, $5)
RETURNING id, name, status, wg_public_key, vpn_ip, created_at
"""
_GET: Final = """
SELECT id, name, status, wg_public_key, vpn_ip, created_at FROM instance WHERE id = $1
"""
_GET_LOCKED: Final = f"{_GET} FOR UPDATE"
_PAGE: Final = """
SELECT position, id, name, status, wg_public_key, vpn_ip, created_at FROM instance
WHERE position > $1 ORDER BY position LIMIT $2
"""

_OWNER: Final = """
SELECT id, name, current_fingerprint FROM instance
WHERE id = (SELECT instance_id FROM certificate WHERE fingerprint = $1)
    AND current_fingerprint = $1 AND current_expires_at > now() AND status <> 'terminated'
"""


def _instance(row: asyncpg.Record) -> Instance:
    return Instance(
        id=row["id"],
        name=row["name"],
        status=InstanceStatus(row["status"]),
        wg_public_key=wireguard.encode(row["wg_public_key"]),
        vpn_ip=row["vpn_ip"],
        created_at=row["created_at"],
    )


async def owner(connection: Connection, fingerprint: str) -> Principal | None:
    """Return the instance whose current certificate this is."""
    row = await connection.fetchrow(_OWNER, fingerprint)
    if row is None:
        return None
    return Principal(
        kind=PrincipalKind.INSTANCE,
        id=str(row["id"]),
        name=row["name"],
        fingerprint=row["current_fingerprint"],
    )


async def insert(
    connection: Connection,
    instance_id: UUID,
    name: str,
    wg_public_key: bytes,
    vpn_ip: str,
    secrets: bytes,
) -> Instance:
    """Add a pending instance."""
    row = await connection.fetchrow(
        _INSERT,
        instance_id,
        name,
        wg_public_key,
        vpn_ip,
        secrets,
    )
    assert row is not None  # noqa: S101 - RETURNING of an INSERT
    return _instance(row)


async def get(connection: Connection, instance_id: UUID, *, lock: bool = False) -> Instance | None:
    """Return an instance; with `lock`, its row is ours until the transaction ends."""
    row = await connection.fetchrow(_GET_LOCKED if lock else _GET, instance_id)
    return _instance(row) if row is not None else None


async def page(
    connection: Connection, limit: int, after: int | None
) -> tuple[list[Instance], int | None]:
    """Return instances in the order of their creation, and where the next page begins."""
    rows = await connection.fetch(
        _PAGE,
        after or 0,
        limit + 1,
    )
    kept = rows[:limit]
    return [_instance(row) for row in kept], kept[-1]["position"] if len(rows) > limit else None


async def set_status(connection: Connection, instance_id: UUID, status: InstanceStatus) -> None:
    """Write the status; whether it may be is decided before."""
    await connection.execute("UPDATE instance SET status = $2 WHERE id = $1", instance_id, status)


async def put_secrets(connection: Connection, instance_id: UUID, secrets: bytes) -> None:
    """Write the sealed secrets."""
    await connection.execute("UPDATE instance SET secrets = $2 WHERE id = $1", instance_id, secrets)


async def take_refresh(connection: Connection, instance_id: UUID, per_hour: int) -> bytes | None:
    """Return the sealed secrets, counted against the hour; None when the hour's are spent."""
    value: bytes | None = await connection.fetchval(
        """
        UPDATE instance SET
            refreshes = CASE WHEN refreshing_since > now() - $2::interval THEN refreshes + 1
                ELSE 1 END,
            refreshing_since = CASE WHEN refreshing_since > now() - $2::interval
                THEN refreshing_since ELSE now() END
        WHERE id = $1 AND (refreshes < $3 OR refreshing_since IS NULL
            OR refreshing_since <= now() - $2::interval)
        RETURNING secrets
        """,
        instance_id,
        REFRESH_WINDOW,
        per_hour,
    )
    return value


async def refresh_wait_seconds(connection: Connection, instance_id: UUID) -> float:
    """Return how long until secrets may be refreshed again."""
    value: float = await connection.fetchval(
        "SELECT extract(epoch FROM refreshing_since + $2::interval - now())::float8"
        " FROM instance WHERE id = $1",
        instance_id,
        REFRESH_WINDOW,
    )
    return value


@dataclass(frozen=True, slots=True)
class Revoked:
    fingerprint: str
    serial_hex: str
    revoked_at: datetime


async def revoke_current(
    connection: Connection,
    instance_id: UUID,
    reason: str,
    detail: str,
    actor_json: str,
    request_id: str,
) -> Revoked | None:
    """Revoke the current certificate; None where there is none."""
    row = await connection.fetchrow(
        """
        WITH revoked AS (
            UPDATE certificate SET revoked_at = clock_timestamp(), revocation_reason = $2,
                revocation_detail = $3, revoked_by = $4, revocation_request_id = $5
            FROM instance WHERE instance.id = $1 AND certificate.revoked_at IS NULL
                AND certificate.fingerprint = instance.current_fingerprint
            RETURNING certificate.fingerprint, serial_hex, revoked_at
        ), cleared AS (
            UPDATE instance SET current_fingerprint = NULL, current_expires_at = NULL WHERE id = $1
        )
        SELECT fingerprint, serial_hex, revoked_at FROM revoked
        """,
        instance_id,
        reason,
        detail,
        actor_json,
        request_id,
    )
    return Revoked(*row.values()) if row is not None else None


async def inventory(
    connection: Connection, instance_id: UUID, limit: int, before: int | None
) -> tuple[list[InventoryRow], int | None]:
    """Return the instance's certificates, newest first, and where the next page begins."""
    rows = await connection.fetch(
        "SELECT position, instance_id, serial_hex, fingerprint, issued_at, expires_at, revoked_at,"
        " revocation_reason FROM certificate WHERE instance_id = $1"
        " AND ($2::bigint IS NULL OR position < $2) ORDER BY position DESC LIMIT $3",
        instance_id,
        before,
        limit + 1,
    )
    kept = rows[:limit]
    found = [
        InventoryRow.model_validate({k: v for k, v in row.items() if k != "position"})
        for row in kept
    ]
    return found, kept[-1]["position"] if len(rows) > limit else None


async def replace_tokens(connection: Connection, instance_id: UUID, token_hash: str) -> datetime:
    """Spend the instance's tokens and add a new one; return when it expires."""
    await spend_tokens(connection, instance_id)
    expires: datetime = await connection.fetchval(
        "INSERT INTO bootstrap_token (hash, instance_id, expires_at)"
        " VALUES ($1, $2, now() + $3::interval) RETURNING expires_at",
        token_hash,
        instance_id,
        TOKEN_LIFETIME,
    )
    return expires


async def spend_tokens(connection: Connection, instance_id: UUID) -> None:
    """Make the instance's open tokens worthless."""
    await connection.execute(
        "UPDATE bootstrap_token SET spent_at = now() WHERE instance_id = $1 AND spent_at IS NULL",
        instance_id,
    )


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What a bootstrap is decided by: the instance's row, locked, and the token's."""

    name: str
    status: InstanceStatus
    wg_public_key: bytes
    current_fingerprint: str | None
    token_open: bool
    token_claimed: bool


async def bootstrap(connection: Connection, instance_id: UUID, token_hash: str) -> Bootstrap | None:
    """Return the instance, locked, with the state of the token; None where there is none.

    Two statements: the second sees what was committed while the first waited for the lock.
    """
    instance = await connection.fetchrow(
        "SELECT name, status, wg_public_key, current_fingerprint FROM instance WHERE id = $1"
        " FOR UPDATE",
        instance_id,
    )
    token = await connection.fetchrow(
        "SELECT spent_at IS NULL AND expires_at > now() AS open, claim_id IS NOT NULL AS claimed"
        " FROM bootstrap_token WHERE hash = $1 AND instance_id = $2",
        token_hash,
        instance_id,
    )
    if instance is None:
        return None
    return Bootstrap(
        instance["name"],
        InstanceStatus(instance["status"]),
        instance["wg_public_key"],
        instance["current_fingerprint"],
        token_open=token is not None and token["open"],
        token_claimed=token is not None and token["claimed"],
    )


async def claim_bootstrap(
    connection: Connection,
    claim_id: UUID,
    instance_id: UUID,
    renews: str | None,
    token_hash: str,
    request_id: str,
) -> None:
    """Claim the instance's next certificate for a token, in the row lock of `bootstrap`."""
    await connection.execute(
        """
        WITH claims AS (
            INSERT INTO claim (id, instance_id, renews, request_id) VALUES ($1, $2, $3, $5)
        ), held AS (
            UPDATE bootstrap_token SET claim_id = $1 WHERE hash = $4
        )
        UPDATE instance SET pending_claim = $1 WHERE id = $2
        """,
        claim_id,
        instance_id,
        renews,
        token_hash,
        request_id,
    )


async def bootstrap_wait_seconds(
    connection: Connection, address: str, per_minute: int
) -> float | None:
    """Return how long the address has to wait for its failures to be forgotten, or None."""
    wait: float | None = await connection.fetchval(
        "SELECT extract(epoch FROM window_began + $3::interval - now())::float8"
        " FROM bootstrap_attempt WHERE address = $1 AND failures >= $2"
        " AND window_began > now() - $3::interval",
        address,
        per_minute,
        ATTEMPT_WINDOW,
    )
    return wait


async def count_bootstrap_failure(connection: Connection, address: str) -> None:
    """Count a wrong token against the address."""
    await connection.execute(
        """
        INSERT INTO bootstrap_attempt AS a (address, window_began, failures) VALUES ($1, now(), 1)
        ON CONFLICT (address) DO UPDATE SET
            failures = CASE WHEN a.window_began > now() - $2::interval THEN a.failures + 1
                ELSE 1 END,
            window_began = CASE WHEN a.window_began > now() - $2::interval THEN a.window_began
                ELSE now() END
        """,
        address,
        ATTEMPT_WINDOW,
    )


async def forget_bootstrap_failures(connection: Connection) -> None:
    """Drop windows that ended."""
    await connection.execute(
        "DELETE FROM bootstrap_attempt WHERE window_began < now() - $1::interval", ATTEMPT_WINDOW
    )
