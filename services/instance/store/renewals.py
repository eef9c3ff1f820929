"""The two statements of a renewal, each for many at once, and what ends a claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from contracts.certificates import SignedCertificate
from contracts.instance import InstanceStatus
from contracts.messages import IdempotencyKey
from services.instance.domain.renewal import (
    ATTEMPT_WINDOW,
    RENEWAL_INTERVAL,
    SUPERSEDED,
    CertificateFacts,
    InstanceFacts,
    Presented,
)
from shared.database import Connection
from shared.outbox import OutboxRow, columns


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call to renew; `csr_valid` says whether there is anything to sign."""

    claim_id: UUID
    instance_id: UUID
    fingerprint: str
    wg_public_key: bytes | None
    wg_public_key_sha256: bytes
    csr_valid: bool
    attempts_per_hour: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What the claim statement saw, whether it made the claim, and what a retry would get."""

    claimed: bool
    presented: Presented
    successor: SignedCertificate | None


# The snapshot and the claim in one statement. Every condition of the claim stands in the
# instance's own row, so that a row changed meanwhile is judged again as it is then.
_CLAIM: Final = """
WITH asked AS (
    SELECT * FROM unnest(
        $1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::boolean[], $7::text[]
    ) AS t (n, claim_id, instance_id, fingerprint, wg_sha256, csr_valid, request_id)
), claimed AS (
    UPDATE instance SET pending_claim = asked.claim_id
    FROM asked
    WHERE instance.id = asked.instance_id
        AND asked.csr_valid
        AND instance.status = 'running'
        AND sha256(instance.wg_public_key) = asked.wg_sha256
        AND instance.current_fingerprint = asked.fingerprint
        AND instance.current_expires_at > now()
        AND instance.pending_claim IS NULL
        AND (instance.renewed_at IS NULL OR instance.renewed_at <= now() - $8::interval)
        AND (instance.failures < $9 OR instance.failing_since <= now() - $10::interval)
    RETURNING asked.n, asked.claim_id, asked.instance_id, asked.fingerprint, asked.request_id
), claims AS (
    INSERT INTO claim (id, instance_id, renews, request_id)
    SELECT claim_id, instance_id, fingerprint, request_id FROM claimed
)
SELECT claimed.n IS NOT NULL AS claimed, now() AS now,
    i.id, i.name, i.status, i.wg_public_key, i.vpn_ip, i.current_fingerprint, i.renewed_at,
    i.pending_claim IS NOT NULL AS claim_pending, i.failing_since, i.failures,
    c.instance_id AS certificate_instance, c.fingerprint, c.expires_at,
    c.revoked_at IS NOT NULL AS revoked, c.superseded_by,
    s.public_key_sha256 AS next_public_key, s.certificate_pem AS next_pem,
    s.serial_hex AS next_serial, s.fingerprint AS next_fingerprint,
    s.not_before AS next_not_before, s.expires_at AS next_expires_at
FROM asked
LEFT JOIN claimed ON claimed.n = asked.n
LEFT JOIN instance i ON i.id = asked.instance_id
LEFT JOIN certificate c ON c.fingerprint = asked.fingerprint
LEFT JOIN certificate s ON s.fingerprint = c.superseded_by AND s.revoked_at IS NULL
    AND s.fingerprint = i.current_fingerprint AND c.instance_id = i.id
ORDER BY asked.n
"""


_PRESENT: Final = """
SELECT now() AS now,
    i.id, i.name, i.status, i.wg_public_key, i.vpn_ip, i.current_fingerprint, i.renewed_at,
    i.pending_claim IS NOT NULL AS claim_pending, i.failing_since, i.failures,
    c.instance_id AS certificate_instance, c.fingerprint, c.expires_at,
    c.revoked_at IS NOT NULL AS revoked, c.superseded_by
FROM (SELECT $1::uuid AS instance_id, $2::text AS fingerprint) asked
LEFT JOIN instance i ON i.id = asked.instance_id
LEFT JOIN certificate c ON c.fingerprint = asked.fingerprint
"""


async def present(
    connection: Connection, instance_id: UUID, fingerprint: str, wg_public_key: bytes | None
) -> Presented:
    """Return what is known of a caller, for a call that claims nothing."""
    row = await connection.fetchrow(_PRESENT, instance_id, fingerprint)
    assert row is not None  # noqa: S101 - one row is asked about
    return _presented(row, wg_public_key)


async def claim(connection: Connection, attempts: Sequence[Attempt]) -> list[Answered]:
    """Claim a renewal for each attempt that may have one; tell what was there for the others."""
    rows = await connection.fetch(
        _CLAIM,
        list(range(len(attempts))),
        [a.claim_id for a in attempts],
        [a.instance_id for a in attempts],
        [a.fingerprint for a in attempts],
        [a.wg_public_key_sha256 for a in attempts],
        [a.csr_valid for a in attempts],
        [a.request_id for a in attempts],
        RENEWAL_INTERVAL,
        attempts[0].attempts_per_hour,
        ATTEMPT_WINDOW,
    )
    return [_answered(row, a) for row, a in zip(rows, attempts, strict=True)]


def _answered(row: asyncpg.Record, attempt: Attempt) -> Answered:
    presented = _presented(row, attempt.wg_public_key, row["next_public_key"])
    successor = None
    if row["next_pem"] is not None:
        successor = SignedCertificate(
            certificate_pem=row["next_pem"],
            serial_hex=row["next_serial"],
            fingerprint=row["next_fingerprint"],
            not_before=row["next_not_before"],
            not_after=row["next_expires_at"],
        )
    return Answered(row["claimed"], presented, successor)


def _presented(
    row: asyncpg.Record, wg_public_key: bytes | None, successor: str | None = None
) -> Presented:
    return Presented(
        now=row["now"],
        instance=_instance(row) if row["id"] is not None else None,
        certificate=_certificate(row) if row["fingerprint"] is not None else None,
        successor_public_key_sha256=successor,
        wg_public_key=wg_public_key,
    )


def _instance(row: asyncpg.Record) -> InstanceFacts:
    return InstanceFacts(
        id=str(row["id"]),
        name=row["name"],
        status=InstanceStatus(row["status"]),
        wg_public_key=row["wg_public_key"],
        vpn_ip=row["vpn_ip"],
        current_fingerprint=row["current_fingerprint"],
        renewed_at=row["renewed_at"],
        claim_pending=row["claim_pending"],
        failing_since=row["failing_since"],
        failures=row["failures"],
    )


def _certificate(row: asyncpg.Record) -> CertificateFacts:
    return CertificateFacts(
        instance_id=str(row["certificate_instance"]),
        fingerprint=row["fingerprint"],
        expires_at=row["expires_at"],
        revoked=row["revoked"],
        superseded_by=row["superseded_by"],
    )


@dataclass(frozen=True, slots=True)
class Signed:
    """A claim's certificate, to be recorded with the outbox row that tells of it."""

    claim_id: UUID
    instance_id: UUID
    certificate: SignedCertificate
    public_key_sha256: str
    is_renewal: bool
    actor_json: str
    row: OutboxRow
    key: IdempotencyKey | None


# Whoever ends a claim locks its instance first, and goes on only while the claim is the pending
# one there: a claim that was voided meanwhile stays voided.
_RECORD: Final = """
WITH signed AS (
    SELECT * FROM unnest(
        $1::int[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
        $8::timestamptz[], $9::boolean[], $10::text[], $11::text[], $12::text[], $13::text[],
        $14::text[], $16::uuid[], $17::text[], $18::text[], $19::text[], $20::text[]
    ) AS t (n, claim_id, fingerprint, serial_hex, public_key_sha256, certificate_pem, not_before,
        expires_at, is_renewal, actor, entry, event_headers, event_subject, event, instance_id,
        scope, key, request, reply)
), held AS (
    SELECT signed.n, signed.claim_id FROM instance
    JOIN signed ON instance.pending_claim = signed.claim_id AND instance.id = signed.instance_id
    ORDER BY instance.id FOR UPDATE OF instance
), recorded AS (
    UPDATE claim SET state = 'recorded' FROM held WHERE claim.id = held.claim_id
    RETURNING held.n, claim.instance_id, claim.renews, claim.request_id
), superseded AS (
    UPDATE certificate SET revoked_at = clock_timestamp(), revocation_reason = $15,
        revoked_by = signed.actor, revocation_request_id = recorded.request_id,
        superseded_by = CASE WHEN signed.is_renewal THEN signed.fingerprint END
    FROM recorded JOIN signed USING (n)
    WHERE certificate.fingerprint = recorded.renews AND certificate.revoked_at IS NULL
), added AS (
    INSERT INTO certificate (instance_id, claim_id, fingerprint, serial_hex, public_key_sha256,
        certificate_pem, not_before, expires_at)
    SELECT recorded.instance_id, claim_id, fingerprint, serial_hex, public_key_sha256,
        certificate_pem, not_before, expires_at
    FROM recorded JOIN signed USING (n)
), moved AS (
    UPDATE instance SET pending_claim = NULL, current_fingerprint = signed.fingerprint,
        current_expires_at = signed.expires_at,
        renewed_at = CASE WHEN signed.is_renewal THEN clock_timestamp() ELSE renewed_at END
    FROM recorded JOIN signed USING (n)
    WHERE instance.id = recorded.instance_id
), spent AS (
    UPDATE bootstrap_token SET spent_at = now() FROM recorded JOIN signed USING (n)
    WHERE NOT signed.is_renewal AND bootstrap_token.claim_id = signed.claim_id
), told AS (
    INSERT INTO outbox (entry, event_headers, event_subject, event)
    SELECT entry, event_headers, event_subject, event FROM recorded JOIN signed USING (n)
), answered AS (
    INSERT INTO idempotency (scope, key, request, reply)
    SELECT scope, key, request, reply FROM recorded JOIN signed USING (n) WHERE key IS NOT NULL
    ON CONFLICT DO NOTHING
)
SELECT recorded.n IS NOT NULL AS recorded FROM signed LEFT JOIN recorded USING (n) ORDER BY n
"""


async def record(connection: Connection, signed: Sequence[Signed]) -> list[bool]:
    """Make each certificate its instance's current one; False where the claim was voided."""
    rows = await connection.fetch(
        _RECORD,
        list(range(len(signed))),
        [s.claim_id for s in signed],
        [s.certificate.fingerprint for s in signed],
        [s.certificate.serial_hex for s in signed],
        [s.public_key_sha256 for s in signed],
        [s.certificate.certificate_pem for s in signed],
        [s.certificate.not_before for s in signed],
        [s.certificate.not_after for s in signed],
        [s.is_renewal for s in signed],
        [s.actor_json for s in signed],
        *columns([s.row for s in signed]),
        SUPERSEDED,
        [s.instance_id for s in signed],
        [s.key and s.key.scope for s in signed],
        [s.key and s.key.key for s in signed],
        [s.key and s.key.request for s in signed],
        [s.key and s.certificate.model_dump_json() for s in signed],
    )
    return [row["recorded"] for row in rows]


_VOID: Final = """
WITH held AS (
    SELECT id, pending_claim FROM instance WHERE pending_claim = ANY($2::uuid[])
        AND id = ANY($1::uuid[])
    ORDER BY id FOR UPDATE
), freed AS (
    UPDATE instance SET pending_claim = NULL FROM held WHERE instance.id = held.id
), voided AS (
    UPDATE claim SET state = 'voided' FROM held WHERE claim.id = held.pending_claim
    RETURNING claim.id, claim.instance_id, claim.request_id
), returned AS (
    UPDATE bootstrap_token SET claim_id = NULL FROM voided
    WHERE bootstrap_token.claim_id = voided.id AND spent_at IS NULL
)
SELECT id, instance_id, request_id FROM voided
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of an instance, and the request that made it."""

    claim_id: UUID
    instance_id: UUID
    request_id: str


async def void(connection: Connection, claims: Sequence[tuple[UUID, UUID]]) -> list[Claim]:
    """Void the claims (instance, claim) that are still pending, and return those.

    The hour and the bootstrap token are given back.
    """
    rows = await connection.fetch(_VOID, [c[0] for c in claims], [c[1] for c in claims])
    return [Claim(row["id"], row["instance_id"], row["request_id"]) for row in rows]


async def overdue_claims(
    connection: Connection, lifetime: timedelta, limit: int
) -> list[tuple[UUID, UUID]]:
    """Return (instance, claim) of claims that are pending for longer."""
    rows = await connection.fetch(
        "SELECT instance_id, id FROM claim WHERE state = 'pending'"
        " AND created_at < now() - $1::interval ORDER BY created_at LIMIT $2",
        lifetime,
        limit,
    )
    return [(row["instance_id"], row["id"]) for row in rows]


async def pending_claim(connection: Connection, instance_id: UUID) -> UUID | None:
    """Return the claim that is pending for an instance."""
    value: UUID | None = await connection.fetchval(
        "SELECT pending_claim FROM instance WHERE id = $1", instance_id
    )
    return value


async def count_failure(connection: Connection, instance_id: UUID) -> None:
    """Count an attempt that failed, in windows of an hour."""
    await connection.execute(
        """
        UPDATE instance SET
            failures = CASE WHEN failing_since > now() - $2::interval THEN failures + 1 ELSE 1 END,
            failing_since = CASE WHEN failing_since > now() - $2::interval THEN failing_since
                ELSE now() END
        WHERE id = $1
        """,
        instance_id,
        ATTEMPT_WINDOW,
    )


async def untold_claims(connection: Connection, limit: int) -> list[UUID]:
    """Return voided claims that the issuer has not confirmed."""
    rows = await connection.fetch(
        "SELECT id FROM claim WHERE state = 'voided' AND NOT void_told"
        " ORDER BY created_at LIMIT $1",
        limit,
    )
    return [row["id"] for row in rows]


async def claims_told(connection: Connection, claim_ids: Sequence[UUID]) -> None:
    """Note that the issuer knows."""
    await connection.execute(
        "UPDATE claim SET void_told = true WHERE id = ANY($1::uuid[])", list(claim_ids)
    )


@dataclass(frozen=True, slots=True)
class Untold:
    """A revocation that the issuer has not confirmed."""

    fingerprint: str
    reason: str
    detail: str
    revoked_at: datetime
    revoked_by: str
    request_id: str


async def untold_revocations(connection: Connection, limit: int) -> list[Untold]:
    """Return revocations that the issuer has not confirmed, oldest first."""
    rows = await connection.fetch(
        "SELECT fingerprint, revocation_reason, revocation_detail, revoked_at, revoked_by,"
        " revocation_request_id FROM certificate"
        " WHERE revoked_at IS NOT NULL AND NOT revocation_told ORDER BY position LIMIT $1",
        limit,
    )
    return [Untold(*row.values()) for row in rows]


async def revocations_told(connection: Connection, fingerprints: Sequence[str]) -> None:
    """Note that the issuer knows."""
    await connection.execute(
        "UPDATE certificate SET revocation_told = true WHERE fingerprint = ANY($1::text[])",
        list(fingerprints),
    )
