"""The administrator's certificates: at most one is current."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from contracts.certificates import RevocationReason, SignedCertificate
from contracts.issuer import Revocation
from contracts.principal import Principal
from shared.database import Connection

_CURRENT: Final = "SELECT fingerprint FROM admin_certificate WHERE state = 'current'"
_SUPERSEDE: Final = """
UPDATE admin_certificate SET state = 'superseded', revoked_at = clock_timestamp(),
    revocation_reason = 'superseded', revoked_by = $1, revocation_request_id = $2,
    pkcs12 = NULL, legacy_pkcs12 = NULL
WHERE state = 'current'
RETURNING fingerprint
"""
_INSERT: Final = """
INSERT INTO admin_certificate
    (claim_id, fingerprint, serial_hex, not_before, not_after, pkcs12, legacy_pkcs12)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_UNTOLD: Final = """
SELECT fingerprint, revocation_reason, revocation_detail, revoked_at, revoked_by,
    revocation_request_id
FROM admin_certificate WHERE revoked_at IS NOT NULL AND NOT revocation_told
ORDER BY position LIMIT $1
"""
_TOLD: Final = """
UPDATE admin_certificate SET revocation_told = true WHERE fingerprint = ANY($1::text[])
"""


async def current_fingerprint(connection: Connection) -> str | None:
    """Return the fingerprint of the current certificate."""
    value: str | None = await connection.fetchval(_CURRENT)
    return value


async def supersede(connection: Connection, actor: Principal, request_id: str) -> str | None:
    """Revoke the current certificate and forget its bundle; return its fingerprint."""
    value: str | None = await connection.fetchval(_SUPERSEDE, actor.model_dump_json(), request_id)
    return value


async def insert(
    connection: Connection,
    claim_id: UUID,
    certificate: SignedCertificate,
    pkcs12: bytes | None,
    legacy_pkcs12: bytes | None,
) -> None:
    """Make a certificate the current one; the bundles are sealed."""
    await connection.execute(
        _INSERT,
        claim_id,
        certificate.fingerprint,
        certificate.serial_hex,
        certificate.not_before,
        certificate.not_after,
        pkcs12,
        legacy_pkcs12,
    )


async def untold(connection: Connection, limit: int) -> list[Revocation]:
    """Return revocations that the issuer has not confirmed."""
    return [_revocation(row) for row in await connection.fetch(_UNTOLD, limit)]


async def mark_told(connection: Connection, fingerprints: Sequence[str]) -> None:
    """Note that the issuer has confirmed the revocations."""
    await connection.execute(_TOLD, fingerprints)


def _revocation(row: asyncpg.Record) -> Revocation:
    return Revocation(
        fingerprint=row["fingerprint"],
        reason=RevocationReason(row["revocation_reason"]),
        detail=row["revocation_detail"],
        revoked_at=row["revoked_at"],
        actor=Principal.model_validate_json(row["revoked_by"]),
        request_id=row["revocation_request_id"],
    )
