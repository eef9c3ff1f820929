"""The administrator's PKCS#12 certificate, from claim to record.

1. A pending claim is committed.
2. The issuer makes key and certificate under the claim.
3. One transaction records the certificate and the claim, and supersedes the certificate before.

A crash after 1 or 2 leaves the claim pending: the sweeper voids it after 30 s, and what was signed
is revoked as undelivered. A crash after 3 leaves the old certificate to the sweeper.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import GenerateAdminBundle, SignedBundle
from contracts.messages import Call
from contracts.principal import Principal
from contracts.registry import AdminBundle
from services.registry.service import Registry
from services.registry.store import admin_certificates, claims, platform
from shared.database import Connection
from shared.identifiers import uuid7

ADMIN: Final = AuditObject(type="admin", id="admin", name="admin")


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A certificate that is nobody's yet."""

    claim_id: UUID
    bundle: SignedBundle


async def generate(registry: Registry, call: Call, actor: Principal) -> Unrecorded:
    """Have a certificate made (steps 1 and 2)."""
    claim_id = uuid7()
    async with registry.runtime.database.transaction() as connection:
        renews = await admin_certificates.current_fingerprint(connection)
        await claims.insert(connection, claim_id, call.request_id)
    bundle: SignedBundle = await registry.request(
        GenerateAdminBundle(call=call, claim_id=claim_id, actor=actor, renews=renews)
    )
    return Unrecorded(claim_id, bundle)


async def record(
    registry: Registry,
    connection: Connection,
    made: Unrecorded,
    actor: Principal,
    request_id: str,
) -> str | None:
    """Make the certificate the administrator's only one; return the one before (step 3).

    The caller's transaction holds the lock of `platform.lock`. Raises `OUTCOME_UNKNOWN` where the
    claim was voided meanwhile: nothing has changed then.
    """
    if not await claims.record(connection, made.claim_id):
        raise CertwireError(ErrorCode.OUTCOME_UNKNOWN, "it took too long and was undone")
    superseded = await admin_certificates.supersede(connection, actor, request_id)
    certificate = made.bundle.certificate
    await admin_certificates.insert(
        connection,
        made.claim_id,
        certificate,
        registry.sealer.seal(made.bundle.pkcs12, _row("pkcs12", certificate.fingerprint)),
        registry.sealer.seal(
            made.bundle.legacy_pkcs12, _row("legacy_pkcs12", certificate.fingerprint)
        ),
    )
    await platform.use_pkcs12(connection)
    return superseded


def _row(column: str, fingerprint: str) -> str:
    """Return the name under which the bundle is sealed."""
    return f"registry.admin_certificate.{column}:{fingerprint}"


def shown_once(bundle: SignedBundle) -> AdminBundle:
    """Return what is handed out and never again."""
    return AdminBundle(
        pkcs12=bundle.pkcs12,
        password=bundle.password,
        serial_hex=bundle.certificate.serial_hex,
        expires_at=bundle.certificate.not_after,
    )
