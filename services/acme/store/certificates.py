"""Certificates of projects."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

import asyncpg

from contracts.acme import CertificateStatus, CertificateType, PublicCertificate
from shared.database import Connection

SOON_DAYS: Final = 30
"""The rulings' number: `expiring_soon` at that many days or fewer."""

_NEW_ID: Final = "SELECT nextval(pg_get_serial_sequence('certificate', 'id'))"
_VISIBLE: Final = """
SELECT *, now() AS looked_at FROM certificate WHERE project_id = $1 ORDER BY staging LIMIT 1
"""
_OF_KIND: Final = """
SELECT *, now() AS looked_at FROM certificate WHERE project_id = $1 AND staging = $2
"""
_GET: Final = "SELECT *, now() AS looked_at FROM certificate WHERE id = $1"
_REMOVE: Final = "DELETE FROM certificate WHERE project_id = $1 AND staging = $2"
_INSERT: Final = """
INSERT INTO certificate (id, project_id, staging, type, domain, names, fingerprint, serial_hex,
    subject, issuer, issuer_common_name, issuer_organization, not_before, not_after, chain_pem,
    sealed_key, account_id, issuance, sealed_credentials, ari_id, ari_check_at, renew_at,
    last_renew_attempt)
OVERRIDING SYSTEM VALUE
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23)
RETURNING *, now() AS looked_at
"""
_REVOKE: Final = """
UPDATE certificate SET revoked_at = now(), renew_at = NULL, ari_check_at = NULL
WHERE id = $1 AND revoked_at IS NULL
RETURNING *, now() AS looked_at
"""
_RENEWAL_BEGUN: Final = "UPDATE certificate SET last_renew_attempt = now() WHERE id = $1"
_RENEWAL_FAILED: Final = """
UPDATE certificate SET failures = $2, last_renew_error = $3,
    renew_at = CASE WHEN renew_at IS NULL THEN NULL ELSE $4::timestamptz END
WHERE id = $1
"""
_PROJECT_OF_DOMAIN: Final = """
SELECT project_id FROM certificate
WHERE domain = $1 AND type = 'letsencrypt' AND NOT staging ORDER BY id DESC LIMIT 1
"""
PAGE: Final = """
SELECT id, domain, not_after, revoked_at IS NOT NULL AS revoked FROM certificate
WHERE (not_after, id) > ($1, $2) AND type = 'letsencrypt' AND NOT staging AND revoked_at IS NULL
ORDER BY not_after, id LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class _Certificate:
    """What a certificate is, with its key."""

    id: int
    project_id: str
    staging: bool
    type: CertificateType
    domain: str
    names: tuple[str, ...]
    fingerprint: str
    serial_hex: str
    subject: str
    issuer: str
    issuer_common_name: str | None
    issuer_organization: str | None
    not_before: datetime
    not_after: datetime
    chain_pem: str
    sealed_key: bytes


@dataclass(frozen=True, slots=True)
class NewCertificate(_Certificate):
    """What is stored of a certificate. The fields say how it is renewed, if it is."""

    account_id: int | None = None
    issuance: str | None = None
    sealed_credentials: bytes | None = None
    ari_id: str | None = None
    ari_check_at: datetime | None = None
    renew_at: datetime | None = None
    last_renew_attempt: datetime | None = None

    def shown(self, now: datetime) -> PublicCertificate:
        """Return the certificate as it is shown, whether or not it will be stored."""
        return _shown(self, now, None, None)


@dataclass(frozen=True, slots=True)
class CertificateRow(_Certificate):
    """A certificate with all that the service knows of it; `looked_at` is the database's time."""

    revoked_at: datetime | None
    account_id: int | None
    issuance: str | None
    sealed_credentials: bytes | None
    ari_id: str | None
    renew_at: datetime | None
    failures: int
    last_renew_attempt: datetime | None
    last_renew_error: str | None
    looked_at: datetime

    def shown(self) -> PublicCertificate:
        """Return the certificate as it is shown."""
        return _shown(self, self.looked_at, self.revoked_at, self.last_renew_error)


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the administrator's list."""

    id: int
    domain: str
    not_after: datetime
    revoked: bool


_COLUMNS: Final = tuple(each.name for each in fields(CertificateRow))


async def new_id(connection: Connection) -> int:
    """Return the id of the certificate that is inserted next; its key is sealed for it."""
    number: int = await connection.fetchval(_NEW_ID)
    return number


async def visible(connection: Connection, project_id: str) -> CertificateRow | None:
    """Return the certificate that a project has; staging's only where there is no other."""
    return _row(await connection.fetchrow(_VISIBLE, project_id))


async def of_kind(
    connection: Connection, project_id: str, *, staging: bool
) -> CertificateRow | None:
    """Return a project's certificate that counts, or staging's."""
    return _row(await connection.fetchrow(_OF_KIND, project_id, staging))


async def get(connection: Connection, certificate_id: int) -> CertificateRow | None:
    """Return a certificate by its id."""
    return _row(await connection.fetchrow(_GET, certificate_id))


async def remove(connection: Connection, project_id: str, *, staging: bool) -> None:
    """Forget a project's certificate and its key."""
    await connection.execute(_REMOVE, project_id, staging)


async def insert(connection: Connection, certificate: NewCertificate) -> CertificateRow:
    """Add a certificate where the project has none of its kind."""
    values: Sequence[object] = [getattr(certificate, each.name) for each in fields(NewCertificate)]
    row = _row(await connection.fetchrow(_INSERT, *values))
    assert row is not None  # noqa: S101 - it was inserted
    return row


async def revoke(connection: Connection, certificate_id: int) -> CertificateRow | None:
    """Mark a certificate as revoked; return None where it is already, or is gone."""
    return _row(await connection.fetchrow(_REVOKE, certificate_id))


async def renewal_begun(connection: Connection, certificate_id: int) -> None:
    """Remember that a renewal is tried now."""
    await connection.execute(_RENEWAL_BEGUN, certificate_id)


async def renewal_failed(
    connection: Connection, certificate_id: int, failures: int, reason: str, next_at: datetime
) -> None:
    """Remember that a renewal failed, for the nth time, and when it is tried again by itself."""
    await connection.execute(_RENEWAL_FAILED, certificate_id, failures, reason, next_at)


async def project_of_domain(connection: Connection, domain: str) -> str | None:
    """Return the project that has an ACME certificate of the name."""
    project: str | None = await connection.fetchval(_PROJECT_OF_DOMAIN, domain)
    return project


async def page(connection: Connection, after: tuple[datetime, int], limit: int) -> list[Listed]:
    """Return ACME certificates after an end of validity and an id, in their order."""
    return [Listed(*row) for row in await connection.fetch(PAGE, *after, limit)]


def _shown(
    certificate: NewCertificate | CertificateRow,
    now: datetime,
    revoked_at: datetime | None,
    last_renew_error: str | None,
) -> PublicCertificate:
    """Return a certificate as it is shown; days are floored."""
    days = (certificate.not_after - now).days
    status = CertificateStatus.VALID
    if revoked_at is not None:
        status = CertificateStatus.REVOKED
    elif certificate.not_after <= now:
        status = CertificateStatus.EXPIRED
    elif days <= SOON_DAYS:
        status = CertificateStatus.EXPIRING_SOON
    return PublicCertificate(
        project_id=certificate.project_id,
        domain=certificate.domain,
        names=certificate.names,
        type=certificate.type,
        staging=certificate.staging,
        issued_at=certificate.not_before,
        expires_at=certificate.not_after,
        days_until_expiry=days,
        status=status,
        issuer_common_name=certificate.issuer_common_name,
        issuer_organization=certificate.issuer_organization,
        serial_hex=certificate.serial_hex,
        fingerprint=certificate.fingerprint,
        auto_renew=certificate.renew_at is not None,
        revoked_at=revoked_at,
        last_renew_attempt=certificate.last_renew_attempt,
        last_renew_error=last_renew_error,
    )


def _row(row: asyncpg.Record | None) -> CertificateRow | None:
    if row is None:
        return None
    values = {name: row[name] for name in _COLUMNS}
    return CertificateRow(
        **{**values, "type": CertificateType(row["type"]), "names": tuple(row["names"])}
    )
