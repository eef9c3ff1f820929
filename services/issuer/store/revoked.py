"""Revocations, and claims that were given up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is told of a certificate when it is revoked."""

    fingerprint: str
    serial_hex: str
    kind: str
    owner_service: str
    owner_id: str
    issuer: str
    subject: str
    revoked: bool


# Locked in the order of their ids, in every transaction: nobody waits in a circle.
_LOCK: Final = """
SELECT certificate.fingerprint, serial_hex, certificate.kind, owner_service, owner_id,
    ca.subject AS issuer, certificate.subject, revoked_at IS NOT NULL AS revoked
FROM certificate JOIN ca ON ca.id = certificate.ca_id
WHERE certificate.fingerprint = ANY($1::text[])
ORDER BY certificate.id FOR UPDATE OF certificate
"""
_REVOKE: Final = """
WITH item AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[])
        AS t (fingerprint, revoked_at, reason, detail)
), revoked AS (
    UPDATE certificate
    SET revoked_at = item.revoked_at, revocation_reason = item.reason,
        revocation_detail = item.detail
    FROM item
    WHERE certificate.fingerprint = item.fingerprint AND certificate.revoked_at IS NULL
    RETURNING ca_id, serial_hex, certificate.revoked_at, revocation_reason, not_after
)
INSERT INTO crl_waiting (ca_id, serial_hex, revoked_at, reason, not_after)
SELECT ca_id, serial_hex, revoked_at, revocation_reason, not_after FROM revoked
"""
_VOID: Final = """
INSERT INTO claim (id, owner_service, state)
SELECT id, $2, 'voided' FROM unnest($1::uuid[]) AS id ORDER BY id
ON CONFLICT (id) DO UPDATE SET state = 'voided'
    WHERE claim.state = 'signed' AND claim.owner_service = EXCLUDED.owner_service
RETURNING id, fingerprint
"""
_FOREIGN_CLAIMS: Final = """
SELECT count(*) FROM claim WHERE id = ANY($1::uuid[]) AND owner_service <> $2
"""


async def lock(connection: Connection, fingerprints: Iterable[str]) -> list[Recorded]:
    """Return those of the certificates that exist, locked until the transaction ends."""
    return [Recorded(*row) for row in await connection.fetch(_LOCK, list(fingerprints))]


async def revoke(
    connection: Connection, revocations: Sequence[tuple[str, datetime, str, str | None]]
) -> None:
    """Revoke certificates: (fingerprint, time, reason, detail); those that are stay as they are.

    The next CRL lists them.
    """
    await connection.execute(_REVOKE, *map(list, zip(*revocations, strict=True)))


async def void(
    connection: Connection, claim_ids: Iterable[UUID], owner_service: str
) -> dict[UUID, str | None]:
    """Void claims of an owner; return those that were not yet, with what was signed under them."""
    rows = await connection.fetch(_VOID, list(set(claim_ids)), owner_service)
    return {row["id"]: row["fingerprint"] for row in rows}


async def has_foreign_claims(
    connection: Connection, claim_ids: Iterable[UUID], owner_service: str
) -> bool:
    """Return whether one of the claims is another owner's."""
    return bool(await connection.fetchval(_FOREIGN_CLAIMS, list(claim_ids), owner_service))
