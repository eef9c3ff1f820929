"""Certificates as users ask for them, and their private keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg

from shared.database import Connection


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of `certificate`; `certificate` is DER, `ca_id` the signer."""

    id: int
    ca_id: int
    serial_hex: str
    fingerprint: str
    kind: str
    owner_service: str
    owner_id: str
    common_name: str
    subject: str
    names: Sequence[str]
    certificate: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime
    created_at: datetime
    revoked_at: datetime | None
    revocation_reason: str | None
    revocation_detail: str | None
    organization_id: int | None
    created_by_user_id: int | None
    for_ca_id: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A certificate, the name of its signer, and what a user has been granted.

    Grants are those on the signer, of a CA's own certificate those on that CA.
    """

    kept: Kept
    issuer: str
    grants: frozenset[str]


_SEE: Final = """
SELECT certificate.id, certificate.ca_id, serial_hex, certificate.fingerprint, certificate.kind,
    owner_service, owner_id, common_name, certificate.subject, subject_alternative_names,
    certificate.certificate, certificate.not_before, certificate.not_after,
    certificate.created_at, revoked_at, revocation_reason, revocation_detail,
    certificate.organization_id, certificate.created_by_user_id, for_ca_id,
    ca.subject AS issuer, ca_grant.capabilities
FROM certificate JOIN ca ON ca.id = certificate.ca_id
LEFT JOIN ca_grant ON ca_grant.ca_id = coalesce(for_ca_id, certificate.ca_id) AND user_id = $2
WHERE certificate.id = $1
"""
_LOCK: Final = """
SELECT certificate.id, certificate.ca_id, serial_hex, certificate.fingerprint, certificate.kind,
    owner_service, owner_id, common_name, certificate.subject, subject_alternative_names,
    certificate.certificate, certificate.not_before, certificate.not_after,
    certificate.created_at, revoked_at, revocation_reason, revocation_detail,
    certificate.organization_id, certificate.created_by_user_id, for_ca_id,
    ca.subject AS issuer, ca_grant.capabilities
FROM certificate JOIN ca ON ca.id = certificate.ca_id
LEFT JOIN ca_grant ON ca_grant.ca_id = coalesce(for_ca_id, certificate.ca_id) AND user_id = $2
WHERE certificate.id = $1 FOR UPDATE OF certificate
"""
_LIST: Final = """
SELECT id, ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, common_name, subject,
    subject_alternative_names, certificate, not_before, not_after, created_at, revoked_at,
    revocation_reason, revocation_detail, organization_id, created_by_user_id, for_ca_id
FROM certificate WHERE for_ca_id IS NULL
ORDER BY id OFFSET $1 LIMIT $2
"""
_LIST_OF_CA: Final = """
SELECT id, ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, common_name, subject,
    subject_alternative_names, certificate, not_before, not_after, created_at, revoked_at,
    revocation_reason, revocation_detail, organization_id, created_by_user_id, for_ca_id
FROM certificate WHERE for_ca_id IS NULL AND ca_id = $3
ORDER BY id OFFSET $1 LIMIT $2
"""
# What a user may see is read from two indexes, of each as far as the page goes and no further.
_LIST_VISIBLE: Final = """
SELECT id, ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, common_name, subject,
    subject_alternative_names, certificate, not_before, not_after, created_at, revoked_at,
    revocation_reason, revocation_detail, organization_id, created_by_user_id, for_ca_id
FROM certificate JOIN (
    (SELECT id FROM certificate WHERE organization_id = $3 AND for_ca_id IS NULL
        ORDER BY id LIMIT $1::bigint + $2::bigint)
    UNION
    (SELECT id FROM certificate WHERE created_by_user_id = $4 AND for_ca_id IS NULL
        ORDER BY id LIMIT $1::bigint + $2::bigint)
    ORDER BY id OFFSET $1 LIMIT $2) AS page USING (id)
ORDER BY id
"""
_LIST_VISIBLE_OF_CA: Final = """
SELECT id, ca_id, serial_hex, fingerprint, kind, owner_service, owner_id, common_name, subject,
    subject_alternative_names, certificate, not_before, not_after, created_at, revoked_at,
    revocation_reason, revocation_detail, organization_id, created_by_user_id, for_ca_id
FROM certificate WHERE for_ca_id IS NULL AND ca_id = $5
    AND (organization_id = $3 OR created_by_user_id = $4)
ORDER BY id OFFSET $1 LIMIT $2
"""
_KEEP_KEY: Final = "INSERT INTO certificate_key (fingerprint, sealed_key) VALUES ($1, $2)"
_KEY: Final = "SELECT sealed_key FROM certificate_key WHERE fingerprint = $1"


async def see(connection: Connection, certificate_id: int, user_id: int) -> Seen | None:
    """Return a certificate as a user comes to it, or None."""
    return _seen(await connection.fetchrow(_SEE, certificate_id, user_id))


async def lock(connection: Connection, certificate_id: int, user_id: int) -> Seen | None:
    """Return a certificate as a user comes to it, locked until the transaction ends, or None."""
    return _seen(await connection.fetchrow(_LOCK, certificate_id, user_id))


async def listed(connection: Connection, ca_id: int | None, *, skip: int, limit: int) -> list[Kept]:
    """Return a page of all certificates but those of CAs, by id."""
    if ca_id is None:
        rows = await connection.fetch(_LIST, skip, limit)
    else:
        rows = await connection.fetch(_LIST_OF_CA, skip, limit, ca_id)
    return [Kept(*row) for row in rows]


async def listed_for(
    connection: Connection,
    organization_id: int | None,
    user_id: int,
    ca_id: int | None,
    *,
    skip: int,
    limit: int,
) -> list[Kept]:
    """Return a page of what belongs to an organisation or was made by a user, by id."""
    if ca_id is None:
        rows = await connection.fetch(_LIST_VISIBLE, skip, limit, organization_id, user_id)
    else:
        rows = await connection.fetch(
            _LIST_VISIBLE_OF_CA, skip, limit, organization_id, user_id, ca_id
        )
    return [Kept(*row) for row in rows]


async def keep_key(connection: Connection, fingerprint: str, sealed_key: bytes) -> None:
    """Keep the sealed private key of a certificate."""
    await connection.execute(_KEEP_KEY, fingerprint, sealed_key)


async def sealed_key(connection: Connection, fingerprint: str) -> bytes | None:
    """Return the sealed private key of a certificate, or None."""
    sealed: bytes | None = await connection.fetchval(_KEY, fingerprint)
    return sealed


def _seen(row: asyncpg.Record | None) -> Seen | None:
    if row is None:
        return None
    *columns, issuer, capabilities = row
    return Seen(Kept(*columns), issuer, frozenset(capabilities or ()))
