"""The agents' certificates: one is the newest, and one before it may still be accepted.

Whoever changes them holds the lock of their agent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from contracts.certificates import RevocationReason, SignedCertificate
from contracts.principal import Principal
from services.registry.bundles import SealedBundle
from services.registry.domain.renewal import OVERLAP
from services.registry.store.credentials import agent_principal
from shared.database import Connection
from shared.outbox import OutboxRow

_INSERT: Final = """
INSERT INTO agent_certificate (fingerprint, agent_id, claim_id, serial_hex, certificate_pem,
    not_before, not_after, public_key_sha256, predecessor, pkcs12, legacy_pkcs12)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
_PRESENTED: Final = """
SELECT agent.id AS agent_id, label, capabilities, allowed_sites, held.fingerprint, serial_hex,
    held.not_after,
    held.revoked_at IS NULL AND now() BETWEEN held.not_before AND held.not_after
        AND (held.superseded_at IS NULL OR held.superseded_at > now() - $2::interval) AS accepted,
    agent.revoked_at IS NULL AND now() <= held.not_after
        AND held.superseded_by IS NOT DISTINCT FROM agent.fingerprint AS has_successor
FROM agent_certificate AS held JOIN agent ON agent.id = held.agent_id
WHERE held.fingerprint = $1
"""
_NEWEST: Final = """
SELECT fingerprint, serial_hex, certificate_pem, not_before, not_after, public_key_sha256,
    clock_timestamp() - created_at AS age
FROM agent_certificate WHERE agent_id = $1 AND revoked_at IS NULL AND superseded_at IS NULL
"""
_SUPERSEDE: Final = """
UPDATE agent_certificate SET superseded_by = $2, superseded_at = now() WHERE fingerprint = $1
"""
_REVOKE: Final = """
UPDATE agent_certificate SET revoked_at = clock_timestamp(), revocation_reason = $2,
    revoked_by = $3, revocation_request_id = $4, predecessor = NULL, pkcs12 = NULL,
    legacy_pkcs12 = NULL
WHERE agent_id = $1 AND revoked_at IS NULL AND fingerprint = coalesce($5, fingerprint)
"""
# One statement with its audit record, so that a look-up needs no transaction for it. The agent's
# row is locked first, as everywhere; what has changed meanwhile is judged again as it is then.
_USE_FIRST: Final = """
WITH agent_lock AS (
    SELECT agent.id FROM agent JOIN agent_certificate AS used ON used.agent_id = agent.id
    WHERE used.fingerprint = $1 FOR UPDATE OF agent
), used AS (
    UPDATE agent_certificate SET predecessor = NULL FROM agent_lock
    WHERE agent_id = agent_lock.id AND fingerprint = $1 AND predecessor = $2
    RETURNING agent_id
), ended AS (
    UPDATE agent_certificate AS old SET revoked_at = clock_timestamp(), revocation_reason = $3,
        revoked_by = $4, revocation_request_id = $5, pkcs12 = NULL, legacy_pkcs12 = NULL
    FROM used
    WHERE old.agent_id = used.agent_id AND old.fingerprint = $2 AND old.revoked_at IS NULL
    RETURNING true
)
INSERT INTO outbox (entry, event_headers, event_subject, event)
SELECT $6, $7, $8, $9 FROM ended
"""
_OVERDUE: Final = """
SELECT agent_id, fingerprint FROM agent_certificate
WHERE revoked_at IS NULL AND superseded_at IS NOT NULL AND superseded_at <= now() - $1::interval
ORDER BY superseded_at LIMIT $2
"""
_IS_OVERDUE: Final = """
SELECT true FROM agent_certificate
WHERE fingerprint = $1 AND revoked_at IS NULL AND superseded_at <= now() - $2::interval
"""
_FORGET_PREDECESSOR: Final = """
UPDATE agent_certificate SET predecessor = NULL WHERE agent_id = $1 AND predecessor = $2
"""
_BUNDLE: Final = """
SELECT fingerprint, pkcs12, legacy_pkcs12 FROM agent_certificate
WHERE agent_id = $1 AND revoked_at IS NULL AND pkcs12 IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class PresentedCertificate:
    """A certificate of an agent, whatever its state.

    `has_successor`: the newest certificate took the place of this one.
    """

    agent_id: int
    principal: Principal
    fingerprint: str
    serial_hex: str
    not_after: datetime
    accepted: bool
    has_successor: bool


@dataclass(frozen=True, slots=True)
class NewestCertificate:
    """The agent's newest certificate; the hash is None where the issuer made the key."""

    certificate: SignedCertificate
    public_key_sha256: str | None
    age: timedelta


async def insert(
    connection: Connection,
    agent_id: int,
    claim_id: UUID,
    certificate: SignedCertificate,
    *,
    public_key_sha256: str | None = None,
    predecessor: str | None = None,
    bundle: SealedBundle | None = None,
) -> None:
    """Add the agent's newest certificate."""
    await connection.execute(
        _INSERT,
        certificate.fingerprint,
        agent_id,
        claim_id,
        certificate.serial_hex,
        certificate.certificate_pem,
        certificate.not_before,
        certificate.not_after,
        public_key_sha256,
        predecessor,
        bundle and bundle.pkcs12,
        bundle and bundle.legacy_pkcs12,
    )


async def presented(connection: Connection, fingerprint: str) -> PresentedCertificate | None:
    """Return what is known of a presented certificate; None where it is no agent's."""
    row = await connection.fetchrow(_PRESENTED, fingerprint, OVERLAP)
    if row is None:
        return None
    principal = agent_principal(
        row["agent_id"],
        row["label"],
        row["fingerprint"],
        row["capabilities"],
        row["allowed_sites"],
    )
    return PresentedCertificate(
        row["agent_id"],
        principal,
        fingerprint,
        row["serial_hex"],
        row["not_after"],
        accepted=row["accepted"],
        has_successor=row["has_successor"],
    )


async def newest(connection: Connection, agent_id: int) -> NewestCertificate | None:
    """Return the newest certificate of an agent; None where the agent is revoked."""
    row = await connection.fetchrow(_NEWEST, agent_id)
    if row is None:
        return None
    certificate = SignedCertificate(
        certificate_pem=row["certificate_pem"],
        serial_hex=row["serial_hex"],
        fingerprint=row["fingerprint"],
        not_before=row["not_before"],
        not_after=row["not_after"],
    )
    return NewestCertificate(certificate, row["public_key_sha256"], row["age"])


async def supersede(connection: Connection, fingerprint: str, by: str) -> None:
    """Begin the overlap of a certificate with the one that takes its place, or begin it anew."""
    await connection.execute(_SUPERSEDE, fingerprint, by)


async def revoke(
    connection: Connection,
    agent_id: int,
    reason: RevocationReason,
    actor: Principal,
    request_id: str,
    fingerprint: str | None = None,
) -> None:
    """Revoke a certificate of the agent, or all of them, and forget the bundles."""
    await connection.execute(
        _REVOKE, agent_id, reason, actor.model_dump_json(), request_id, fingerprint
    )


async def use_first(
    connection: Connection,
    fingerprint: str,
    predecessor: str,
    actor: Principal,
    request_id: str,
    row: OutboxRow,
) -> None:
    """End the predecessor of a certificate that is used; nothing happens where it has ended."""
    await connection.execute(
        _USE_FIRST,
        fingerprint,
        predecessor,
        RevocationReason.SUPERSEDED,
        actor.model_dump_json(),
        request_id,
        row.entry,
        row.event_headers,
        row.event_subject,
        row.event,
    )


async def overdue(connection: Connection, limit: int) -> list[tuple[int, str]]:
    """Return (agent, fingerprint) of superseded certificates whose overlap is over."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(_OVERDUE, OVERLAP, limit)
    return [(row["agent_id"], row["fingerprint"]) for row in rows]


async def is_overdue(connection: Connection, fingerprint: str) -> bool:
    """Return whether the certificate's overlap is over and it has not been revoked."""
    return bool(await connection.fetchval(_IS_OVERDUE, fingerprint, OVERLAP))


async def forget_predecessor(connection: Connection, agent_id: int, fingerprint: str) -> None:
    """Note that the certificate has ended: the first use of its successor ends nothing more."""
    await connection.execute(_FORGET_PREDECESSOR, agent_id, fingerprint)


async def bundle(connection: Connection, agent_id: int) -> SealedBundle | None:
    """Return the sealed bundle of an agent that is active; None where there is none."""
    row = await connection.fetchrow(_BUNDLE, agent_id)
    return SealedBundle(*row.values()) if row is not None else None
