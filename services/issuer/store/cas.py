"""Certificate authorities."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from shared.database import Connection


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
