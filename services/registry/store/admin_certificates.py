"""The administrator's certificates: at most one is current."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from contracts.certificates import SignedCertificate
from contracts.principal import Principal
from services.registry.bundles import SealedBundle
from shared.database import Connection

GRANT_LIFETIME: Final = timedelta(minutes=10)
"""How long a superseded certificate may fetch its successor's bundle, once (the rulings')."""

_CURRENT: Final = "SELECT fingerprint FROM admin_certificate WHERE state = 'current'"
_CURRENT_ENDS: Final = "SELECT not_after FROM admin_certificate WHERE state = 'current'"
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
_GRANT: Final = """
UPDATE admin_certificate SET superseded_by = $2, download_until = now() + $3::interval
WHERE fingerprint = $1
"""
# Only while what was granted is still the administrator's.
_USE_GRANT: Final = """
UPDATE admin_certificate SET download_until = NULL
WHERE fingerprint = $1 AND download_until > now() AND not_after > now()
    AND superseded_by = (SELECT fingerprint FROM admin_certificate WHERE state = 'current')
RETURNING true
"""
_BUNDLE: Final = """
SELECT fingerprint, pkcs12, legacy_pkcs12 FROM admin_certificate
WHERE state = 'current' AND pkcs12 IS NOT NULL
"""


async def current_fingerprint(connection: Connection) -> str | None:
    """Return the fingerprint of the current certificate."""
    value: str | None = await connection.fetchval(_CURRENT)
    return value


async def current_ends(connection: Connection) -> datetime:
    """Return the `notAfter` of the current certificate, which exists."""
    value: datetime = await connection.fetchval(_CURRENT_ENDS)
    return value


async def supersede(connection: Connection, actor: Principal, request_id: str) -> str | None:
    """Revoke the current certificate and forget its bundle; return its fingerprint."""
    value: str | None = await connection.fetchval(_SUPERSEDE, actor.model_dump_json(), request_id)
    return value


async def insert(
    connection: Connection,
    claim_id: UUID,
    certificate: SignedCertificate,
    bundle: SealedBundle | None,
) -> None:
    """Make a certificate the current one."""
    await connection.execute(
        _INSERT,
        claim_id,
        certificate.fingerprint,
        certificate.serial_hex,
        certificate.not_before,
        certificate.not_after,
        bundle and bundle.pkcs12,
        bundle and bundle.legacy_pkcs12,
    )


async def grant_download(connection: Connection, superseded: str, successor: str) -> None:
    """Let a superseded certificate fetch the bundle of the one that took its place."""
    await connection.execute(_GRANT, superseded, successor, GRANT_LIFETIME)


async def use_grant(connection: Connection, fingerprint: str) -> bool:
    """Spend the grant of a superseded certificate; False where it has none that counts."""
    return bool(await connection.fetchval(_USE_GRANT, fingerprint))


async def bundle(connection: Connection) -> SealedBundle | None:
    """Return the current certificate's sealed bundle; None where there is none."""
    row = await connection.fetchrow(_BUNDLE)
    return SealedBundle(*row.values()) if row is not None else None
