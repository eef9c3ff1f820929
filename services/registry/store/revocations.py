"""Revocations of all certificates that the registry answers for, as the issuer is told of them."""

from collections.abc import Sequence
from typing import Final

import asyncpg

from contracts.certificates import RevocationReason
from contracts.issuer import Revocation
from contracts.principal import Principal
from shared.database import Connection

_UNTOLD: Final = """
(SELECT fingerprint, revocation_reason, revocation_detail, revoked_at, revoked_by,
    revocation_request_id
FROM admin_certificate WHERE revoked_at IS NOT NULL AND NOT revocation_told
ORDER BY position LIMIT $1)
UNION ALL
(SELECT fingerprint, revocation_reason, revocation_detail, revoked_at, revoked_by,
    revocation_request_id
FROM agent_certificate WHERE revoked_at IS NOT NULL AND NOT revocation_told
ORDER BY revoked_at LIMIT $1)
LIMIT $1
"""
_TOLD: Final = """
WITH admin AS (
    UPDATE admin_certificate SET revocation_told = true WHERE fingerprint = ANY($1::text[])
)
UPDATE agent_certificate SET revocation_told = true WHERE fingerprint = ANY($1::text[])
"""


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
