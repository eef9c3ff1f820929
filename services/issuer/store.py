"""The issuer's queries. None of them commits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from services.issuer.authority import Certificate
from shared import outbox
from shared.database import Connection
from shared.outbox import OutboxRow

# --- Certificate authorities ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ca:
    """A row of `ca`; `certificate` is DER."""

    id: int
    name: str
    slug: str
    kind: str
    state: str
    parent_id: int | None
    subject: str
    certificate: bytes = field(repr=False)
    fingerprint: str
    not_before: datetime
    not_after: datetime
    sealed_key: bytes | None = field(repr=False)


def key_row(ca_id: int) -> str:
    """Return what the sealed key of a CA is bound to."""
    return f"issuer.ca.sealed_key:{ca_id}"


PLATFORM_ROOT: Final = "platform_root"
PLATFORM_ISSUING: Final = "platform_issuing"
ACTIVE: Final = "active"
VOIDED: Final = "voided"

_PLATFORM_CAS: Final = """
SELECT id, name, slug, kind, state, parent_id, subject, certificate, fingerprint, not_before,
    not_after, sealed_key
FROM ca WHERE kind IN ('platform_root', 'platform_issuing') ORDER BY kind DESC, id
"""
_LOCK_CREATION: Final = "SELECT pg_advisory_xact_lock(hashtext('issuer.ca'))"
_NEXT_CA_ID: Final = "SELECT nextval(pg_get_serial_sequence('ca', 'id'))"
_INSERT_CA: Final = """
INSERT INTO ca (id, name, slug, kind, state, parent_id, subject, certificate, fingerprint,
    not_before, not_after, sealed_key)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""


async def platform_cas(connection: Connection) -> list[Ca]:
    """Return the platform's CAs, retired ones included: the root first, then by age."""
    return [Ca(*row) for row in await connection.fetch(_PLATFORM_CAS)]


async def lock_creation(connection: Connection) -> None:
    """Let nobody else make a CA of the platform until the transaction ends."""
    await connection.execute(_LOCK_CREATION)


async def next_ca_id(connection: Connection) -> int:
    """Return the id of a CA that is about to be made."""
    return int(await connection.fetchval(_NEXT_CA_ID))


async def insert_ca(connection: Connection, ca: Ca) -> None:
    """Add a CA."""
    await connection.execute(
        _INSERT_CA,
        ca.id,
        ca.name,
        ca.slug,
        ca.kind,
        ca.state,
        ca.parent_id,
        ca.subject,
        ca.certificate,
        ca.fingerprint,
        ca.not_before,
        ca.not_after,
        ca.sealed_key,
    )


# --- Signing -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Issuance:
    """A certificate with all that is recorded of it."""

    claim_id: UUID
    ca_id: int
    certificate: Certificate
    kind: str
    owner_service: str
    owner_id: str
    subject: str
    names: tuple[str, ...]
    public_key_sha256: str
    renews: str | None
    outbox: OutboxRow


# Claims are taken in the order of their ids, in every statement: nobody waits in a circle.
_ISSUE: Final = """
WITH item AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::bytea[], $12::timestamptz[],
        $13::timestamptz[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[])
        AS t (claim_id, ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, subject,
            names, public_key_sha256, certificate, not_before, not_after, renews,
            entry, event_headers, event_subject, event)
), claimed AS (
    INSERT INTO claim (id, owner_service, state, fingerprint)
    SELECT claim_id, owner_service, 'signed', fingerprint FROM item ORDER BY claim_id
    ON CONFLICT (id) DO NOTHING
    RETURNING fingerprint
), issued AS (
    INSERT INTO certificate (ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, subject,
        subject_alternative_names, public_key_sha256, certificate, not_before, not_after, renews)
    SELECT ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, subject,
        string_to_array(names, E'\\n'), public_key_sha256, certificate, not_before, not_after,
        renews
    FROM item JOIN claimed USING (fingerprint)
), told AS (
    INSERT INTO outbox (entry, event_headers, event_subject, event)
    SELECT entry, event_headers, event_subject, event FROM item JOIN claimed USING (fingerprint)
)
SELECT fingerprint FROM claimed
"""
_SIGNED_BEFORE: Final = """
SELECT claim.state, certificate.certificate, serial_hex, certificate.fingerprint, not_before,
    not_after, kind, certificate.owner_service, owner_id, public_key_sha256
FROM claim LEFT JOIN certificate USING (fingerprint)
WHERE claim.id = $1
"""


async def issue(connection: Connection, items: Sequence[Issuance]) -> list[bool]:
    """Record certificates whose claims are free, in one statement; return whose were.

    A claim that is just being taken or voided is waited for.
    """
    certificates = [item.certificate for item in items]
    rows = await connection.fetch(
        _ISSUE,
        [item.claim_id for item in items],
        [item.ca_id for item in items],
        [certificate.serial_hex for certificate in certificates],
        [certificate.fingerprint for certificate in certificates],
        [item.kind for item in items],
        [item.owner_service for item in items],
        [item.owner_id for item in items],
        [item.subject for item in items],
        ["\n".join(item.names) for item in items],
        [item.public_key_sha256 for item in items],
        [certificate.der for certificate in certificates],
        [certificate.not_before for certificate in certificates],
        [certificate.not_after for certificate in certificates],
        [item.renews for item in items],
        *outbox.columns([item.outbox for item in items]),
    )
    recorded = {row["fingerprint"] for row in rows}
    return [certificate.fingerprint in recorded for certificate in certificates]


@dataclass(frozen=True, slots=True)
class Claimed:
    """What became of a claim; `certificate` is None where it was voided before anything."""

    state: str
    certificate: Certificate | None
    kind: str | None
    owner_service: str | None
    owner_id: str | None
    public_key_sha256: str | None

    def is_for(self, issuance: Issuance) -> bool:
        """Return whether the same was asked for: kind, owner and key."""
        return (self.kind, self.owner_service, self.owner_id, self.public_key_sha256) == (
            issuance.kind,
            issuance.owner_service,
            issuance.owner_id,
            issuance.public_key_sha256,
        )


async def claimed(connection: Connection, claim_id: UUID) -> Claimed | None:
    """Return what became of a claim, or None where nothing did."""
    row = await connection.fetchrow(_SIGNED_BEFORE, claim_id)
    if row is None:
        return None
    state, der, serial, fingerprint, not_before, not_after, *order = row
    certificate = Certificate(der, serial, fingerprint, not_before, not_after) if der else None
    return Claimed(state, certificate, *order)


# --- Revocation ----------------------------------------------------------------------------------


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
UPDATE certificate
SET revoked_at = item.revoked_at, revocation_reason = item.reason, revocation_detail = item.detail
FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[])
    AS item (fingerprint, revoked_at, reason, detail)
WHERE certificate.fingerprint = item.fingerprint AND certificate.revoked_at IS NULL
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
    connection: Connection, revocations: Sequence[tuple[str, datetime, str, str]]
) -> None:
    """Revoke certificates: (fingerprint, time, reason, detail); those that are stay as they are."""
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
