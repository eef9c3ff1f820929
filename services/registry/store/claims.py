"""Claims: the right to have one certificate signed."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from shared.database import Connection

PENDING_SECONDS: Final = 30
"""A claim that is pending for longer is voided: the architecture's number."""

_INSERT: Final = "INSERT INTO claim (id, request_id) VALUES ($1, $2)"
_RECORD: Final = """
UPDATE claim SET state = 'recorded' WHERE id = $1 AND state = 'pending' RETURNING true
"""
_VOID_OVERDUE: Final = """
UPDATE claim SET state = 'voided'
WHERE state = 'pending' AND created_at < now() - make_interval(secs => $1)
"""
_UNTOLD: Final = """
SELECT id FROM claim WHERE state = 'voided' AND NOT void_told ORDER BY created_at LIMIT $1
"""
_TOLD: Final = "UPDATE claim SET void_told = true WHERE id = ANY($1::uuid[])"


async def insert(connection: Connection, claim_id: UUID, request_id: str) -> None:
    """Add a pending claim."""
    await connection.execute(_INSERT, claim_id, request_id)


async def record(connection: Connection, claim_id: UUID) -> bool:
    """Note that the certificate is recorded; False where the claim was voided before."""
    return bool(await connection.fetchval(_RECORD, claim_id))


async def void_overdue(connection: Connection) -> None:
    """Void what is pending for too long: nothing is recorded under it any more."""
    await connection.execute(_VOID_OVERDUE, PENDING_SECONDS)


async def untold(connection: Connection, limit: int) -> list[UUID]:
    """Return voided claims that the issuer has not confirmed."""
    return [row["id"] for row in await connection.fetch(_UNTOLD, limit)]


async def mark_told(connection: Connection, claim_ids: Sequence[UUID]) -> None:
    """Note that the issuer has confirmed the voids."""
    await connection.execute(_TOLD, claim_ids)
