"""What was signed, and under which claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from services.issuer.authority import Certificate
from shared import outbox
from shared.database import Connection
from shared.outbox import OutboxRow

VOIDED: Final = "voided"


@dataclass(frozen=True, slots=True)
class Issuance:
    """A certificate with all that is recorded of it.

    `claim_id` None: nobody claimed it before. `certificate_id` None: the next one.
    """

    claim_id: UUID | None
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
    common_name: str
    certificate_id: int | None = None
    for_ca_id: int | None = None
    organization_id: int | None = None
    created_by_user_id: int | None = None


# Claims are taken in the order of their ids, in every statement: nobody waits in a circle.
_ISSUE: Final = """
WITH item AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::bytea[], $12::timestamptz[],
        $13::timestamptz[], $14::text[], $15::text[], $16::bigint[], $17::bigint[], $18::bigint[],
        $19::bigint[], $20::text[], $21::text[], $22::text[], $23::text[])
        AS t (claim_id, ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, subject,
            names, public_key_sha256, certificate, not_before, not_after, renews,
            common_name, certificate_id, for_ca_id, organization_id, created_by_user_id,
            entry, event_headers, event_subject, event)
), claimed AS (
    INSERT INTO claim (id, owner_service, state, fingerprint)
    SELECT claim_id, owner_service, 'signed', fingerprint FROM item
    WHERE claim_id IS NOT NULL ORDER BY claim_id
    ON CONFLICT (id) DO NOTHING
    RETURNING fingerprint
), free AS (
    SELECT fingerprint FROM claimed
    UNION ALL SELECT fingerprint FROM item WHERE claim_id IS NULL
), issued AS (
    INSERT INTO certificate (id, ca_id, serial_hex, fingerprint, kind, owner_service, owner_id,
        subject, subject_alternative_names, public_key_sha256, certificate, not_before, not_after,
        renews, common_name, for_ca_id, organization_id, created_by_user_id)
    SELECT coalesce(certificate_id, nextval(pg_get_serial_sequence('certificate', 'id'))),
        ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, subject,
        string_to_array(names, E'\\n'), public_key_sha256, certificate, not_before, not_after,
        renews, common_name, for_ca_id, organization_id, created_by_user_id
    FROM item JOIN free USING (fingerprint)
), told AS (
    INSERT INTO outbox (entry, event_headers, event_subject, event)
    SELECT entry, event_headers, event_subject, event FROM item JOIN free USING (fingerprint)
)
SELECT fingerprint, now() AS created_at FROM free
"""
_SIGNED_BEFORE: Final = """
SELECT claim.state, certificate.certificate, serial_hex, certificate.fingerprint, not_before,
    not_after, kind, certificate.owner_service, owner_id, public_key_sha256
FROM claim LEFT JOIN certificate USING (fingerprint)
WHERE claim.id = $1
"""


async def issue(connection: Connection, items: Sequence[Issuance]) -> list[datetime | None]:
    """Record certificates whose claims are free, in one statement; return when, None for others.

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
        [item.common_name for item in items],
        [item.certificate_id for item in items],
        [item.for_ca_id for item in items],
        [item.organization_id for item in items],
        [item.created_by_user_id for item in items],
        *outbox.columns([item.outbox for item in items]),
    )
    recorded = {row["fingerprint"]: row["created_at"] for row in rows}
    return [recorded.get(certificate.fingerprint) for certificate in certificates]


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


async def claimed(connection: Connection, claim_id: UUID | None) -> Claimed | None:
    """Return what became of a claim, or None where nothing did."""
    row = await connection.fetchrow(_SIGNED_BEFORE, claim_id)
    if row is None:
        return None
    state, der, serial, fingerprint, not_before, not_after, *order = row
    certificate = Certificate(der, serial, fingerprint, not_before, not_after) if der else None
    return Claimed(state, certificate, *order)
