"""The administrator's certificate, from claim to record; the steps are those of `issuance`.

The certificate before it is superseded in the transaction that records the new one; the sweeper
tells the issuer.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from contracts.agents import AdminAuthMode
from contracts.audit import AuditObject
from contracts.certificates import SignedCertificate
from contracts.issuer import GenerateAdminBundle, SignAdminCertificate, SignedBundle
from contracts.messages import Call
from contracts.principal import Principal
from contracts.registry import AdminBundle
from services.registry import bundles
from services.registry.issuance import record_claim, signing_call
from services.registry.service import Registry
from services.registry.store import admin_certificates, claims, platform
from shared.database import Connection
from shared.identifiers import uuid7

ADMIN: Final = AuditObject(type="admin", id="admin", name="admin")


@dataclass(frozen=True, slots=True)
class Claimed:
    """The right to one certificate, and the fingerprint of the one before."""

    claim_id: UUID
    renews: str | None


async def claim(connection: Connection, call: Call) -> Claimed:
    """Claim a certificate of the administrator (step 1)."""
    claimed = Claimed(uuid7(), await admin_certificates.current_fingerprint(connection))
    await claims.insert(connection, claimed.claim_id, call.request_id)
    return claimed


async def generate(
    registry: Registry, call: Call, actor: Principal, claimed: Claimed
) -> SignedBundle:
    """Have key, certificate and bundle made (step 2)."""
    bundle: SignedBundle = await registry.request(
        GenerateAdminBundle(
            call=signing_call(call), claim_id=claimed.claim_id, actor=actor, renews=claimed.renews
        )
    )
    return bundle


async def sign(
    registry: Registry, call: Call, actor: Principal, claimed: Claimed, csr_pem: str
) -> SignedCertificate:
    """Have the administrator's own key signed (step 2)."""
    certificate: SignedCertificate = await registry.request(
        SignAdminCertificate(
            call=signing_call(call),
            claim_id=claimed.claim_id,
            actor=actor,
            csr_pem=csr_pem,
            renews=claimed.renews,
        )
    )
    return certificate


async def record(
    registry: Registry,
    connection: Connection,
    claim_id: UUID,
    made: SignedBundle | SignedCertificate,
    actor: Principal,
    request_id: str,
) -> str | None:
    """Make the certificate the administrator's only one; return the one before (step 3).

    The caller's transaction holds the lock of `platform.lock`. Raises `CLAIM_VOIDED`.
    """
    await record_claim(connection, claim_id)
    superseded = await admin_certificates.supersede(connection, actor, request_id)
    if isinstance(made, SignedBundle):
        sealed = bundles.seal(registry.sealer, bundles.ADMIN_TABLE, made)
        await admin_certificates.insert(connection, claim_id, made.certificate, sealed)
        await platform.set_auth_mode(connection, AdminAuthMode.P12)
    else:
        await admin_certificates.insert(connection, claim_id, made, None)
        await platform.set_auth_mode(connection, AdminAuthMode.HARDWARE_BOUND)
    return superseded


def shown_once(bundle: SignedBundle) -> AdminBundle:
    """Return what is handed out and never again."""
    return AdminBundle(
        pkcs12=bundle.pkcs12,
        password=bundle.password,
        serial_hex=bundle.certificate.serial_hex,
        expires_at=bundle.certificate.not_after,
    )
