"""OCSP responders, and the status of certificates that they are asked about."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from services.issuer.domain.ocsp import Status
from shared.database import Connection


@dataclass(frozen=True, slots=True)
class ResponderRow:
    """A row of `ocsp_responder`; `certificate` is DER."""

    ca_id: int
    certificate: bytes = field(repr=False)
    sealed_key: bytes = field(repr=False)
    not_after: datetime


_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('issuer.ocsp', $1::bigint))"
_RESPONDER: Final = """
SELECT ca_id, certificate, sealed_key, not_after FROM ocsp_responder WHERE ca_id = $1
"""
_PUT: Final = """
INSERT INTO ocsp_responder (ca_id, certificate, sealed_key, not_after) VALUES ($1, $2, $3, $4)
ON CONFLICT (ca_id) DO UPDATE SET certificate = EXCLUDED.certificate,
    sealed_key = EXCLUDED.sealed_key, not_after = EXCLUDED.not_after
"""
_STATUS: Final = """
SELECT place, revoked_at, revocation_reason
FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS asked (ca_id, serial_hex, place)
JOIN certificate USING (ca_id, serial_hex)
"""


async def lock(connection: Connection, ca_id: int) -> None:
    """Let nobody else make the CA's responder until the transaction ends."""
    await connection.execute(_LOCK, ca_id)


async def of(connection: Connection, ca_id: int) -> ResponderRow | None:
    """Return a CA's responder, or None."""
    row = await connection.fetchrow(_RESPONDER, ca_id)
    return ResponderRow(*row) if row is not None else None


async def put(connection: Connection, row: ResponderRow) -> None:
    """Let it be the CA's responder from now on."""
    await connection.execute(_PUT, row.ca_id, row.certificate, row.sealed_key, row.not_after)


Question = tuple[int, str | None]
"""A certificate by its CA and serial number in hex; None for one that is nobody's."""


async def look_up(
    connection: Connection, questions: Sequence[Sequence[Question]]
) -> list[list[Status | None]]:
    """Return what is known of the certificates of each question, in order: None is unknown."""
    flat = [certificate for question in questions for certificate in question]
    rows = await connection.fetch(
        _STATUS, [ca_id for ca_id, _ in flat], [serial_hex for _, serial_hex in flat]
    )
    known = {row["place"]: Status(row["revoked_at"], row["revocation_reason"]) for row in rows}
    places = iter(range(1, len(flat) + 1))
    return [[known.get(next(places)) for _ in question] for question in questions]
