"""Claims: the right to have one certificate signed."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from shared.database import Connection

PENDING_SECONDS: Final = 30
"""A claim that is pending for longer is voided: the architecture's number."""

# Waits for a claim on the same subject that is just being made, and gives way to it.
_INSERT: Final = """
INSERT INTO claim (id, request_id, subject) VALUES ($1, $2, $3)
ON CONFLICT (subject) WHERE state = 'pending' DO NOTHING
RETURNING true
"""
_IS_PENDING: Final = "SELECT true FROM claim WHERE subject = $1 AND state = 'pending'"
_RECORD: Final = """
UPDATE claim SET state = 'recorded' WHERE id = $1 AND state = 'pending' RETURNING true
"""
_VOID: Final = "UPDATE claim SET state = 'voided' WHERE id = $1 AND state = 'pending'"
_VOID_SUBJECT: Final = "UPDATE claim SET state = 'voided' WHERE subject = $1 AND state = 'pending'"
_VOID_OVERDUE: Final = """
UPDATE claim SET state = 'voided'
WHERE state = 'pending' AND created_at < now() - make_interval(secs => $1)
"""
_UNTOLD: Final = """
SELECT id FROM claim WHERE state = 'voided' AND NOT void_told ORDER BY created_at LIMIT $1
"""
_TOLD: Final = "UPDATE claim SET void_told = true WHERE id = ANY($1::uuid[])"


async def insert(
    connection: Connection, claim_id: UUID, request_id: str, subject: str | None = None
) -> bool:
    """Add a pending claim; False where one is pending for the same subject."""
    return bool(await connection.fetchval(_INSERT, claim_id, request_id, subject))


async def is_pending(connection: Connection, subject: str) -> bool:
    """Return whether a certificate is being signed for the subject."""
    return bool(await connection.fetchval(_IS_PENDING, subject))


async def record(connection: Connection, claim_id: UUID) -> bool:
    """Note that the certificate is recorded; False where the claim was voided before."""
    return bool(await connection.fetchval(_RECORD, claim_id))


async def void(connection: Connection, claim_id: UUID) -> None:
    """Void the claim if it is still pending."""
    await connection.execute(_VOID, claim_id)


async def void_subject(connection: Connection, subject: str) -> None:
    """Void what is being signed for the subject."""
    await connection.execute(_VOID_SUBJECT, subject)


async def void_overdue(connection: Connection) -> None:
    """Void what is pending for too long: nothing is recorded under it any more."""
    await connection.execute(_VOID_OVERDUE, PENDING_SECONDS)


async def untold(connection: Connection, limit: int) -> list[UUID]:
    """Return voided claims that the issuer has not confirmed."""
    return [row["id"] for row in await connection.fetch(_UNTOLD, limit)]


async def mark_told(connection: Connection, claim_ids: Sequence[UUID]) -> None:
    """Note that the issuer has confirmed the voids."""
    await connection.execute(_TOLD, claim_ids)
