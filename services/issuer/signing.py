"""The signing path, the hot one. In order:

1. The CSR is checked: one PEM block, a key that is not weak, a signature that proves possession.
   Only its public key is used.
2. The certificate is built from the profile and signed.
3. One statement, shared with the requests that wait at the same moment, takes the claim and
   records certificate, event and audit record. Nothing leaves before it has committed.
4. Where the claim was taken before, the same request gets the same certificate, and a voided
   claim gets none.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from contracts.audit import AuditObject
from contracts.certificates import SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.events import CertificateIssued, CertificateRenewed
from contracts.messages import Call
from contracts.principal import Principal
from contracts.subjects import Service
from services.issuer.authority import Authority, Certificate, new_serial
from services.issuer.domain import distinguished_names
from services.issuer.domain.encoding import pem
from services.issuer.domain.identities import Identity, printed
from services.issuer.domain.profiles import Profile
from services.issuer.service import Issuer
from services.issuer.store import signed
from services.issuer.store.signed import Issuance
from shared.clock import rfc3339, utc_now
from shared.outbox import OutboxRow, outbox_row
from shared.x509 import parse_csr


@dataclass(frozen=True, slots=True)
class Ownership:
    """Under which number a user's certificate is kept, and whose it is."""

    certificate_id: int
    organization_id: int | None
    created_by_user_id: int


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be signed, for whom, and on whose behalf.

    `ownership` is of users' certificates; `for_ca_id` of a CA's own.
    """

    profile: Profile
    identity: Identity
    claim_id: UUID | None
    actor: Principal
    call: Call
    renews: str | None = None
    ownership: Ownership | None = None
    for_ca_id: int | None = None


async def sign(issuer: Issuer, order: Order, csr_pem: str) -> SignedCertificate:
    """Sign the public key of a CSR.

    Raises `INVALID_CSR`, `CA_CANNOT_SIGN`, `CLAIM_VOIDED`, and `CONFLICT` for a claim that was
    used for something else.
    """
    public_key_der = parse_csr(csr_pem).public_key_der  # 1
    issuance = await prepare(issuer, order, public_key_der)  # 2
    if await record(issuer, issuance):  # 3
        return reply(issuance.certificate)
    return reply(await _signed_before(issuer, issuance))  # 4


async def prepare(issuer: Issuer, order: Order, public_key_der: bytes) -> Issuance:
    """Sign with the platform's issuing CA. Raises `CA_CANNOT_SIGN`."""
    ca, authority = issuer.authorities.signing()
    return await authority.working(partial(issue, ca.id, authority, order, public_key_der))


def issue(ca_id: int, authority: Authority, order: Order, public_key_der: bytes) -> Issuance:
    """Sign, and put together all that is to be recorded of it. Raises `CA_CANNOT_SIGN`."""
    identity, profile, owned = order.identity, order.profile, order.ownership
    certificate = authority.sign(
        profile, identity, public_key_der, serial=new_serial(), now=utc_now()
    )
    subject = distinguished_names.printed(identity.subject)
    return Issuance(
        claim_id=order.claim_id,
        ca_id=ca_id,
        certificate=certificate,
        kind=profile.kind,
        owner_service=profile.owner,
        owner_id=identity.owner_id,
        subject=subject,
        names=tuple(map(printed, identity.names)),
        public_key_sha256=hashlib.sha256(public_key_der).hexdigest(),
        renews=order.renews,
        outbox=_outbox_row(authority.name, order, certificate, subject),
        common_name=identity.common_name,
        certificate_id=owned.certificate_id if owned else None,
        for_ca_id=order.for_ca_id,
        organization_id=owned.organization_id if owned else None,
        created_by_user_id=owned.created_by_user_id if owned else None,
    )


async def record(issuer: Issuer, issuance: Issuance) -> bool:
    """Commit a certificate; return False where its claim was taken before."""
    created_at = await issuer.issuance.submit(issuance)
    issuer.runtime.backlog.nudge()
    return created_at is not None


def reply(certificate: Certificate) -> SignedCertificate:
    """Return a recorded certificate as it crosses the bus."""
    return SignedCertificate(
        certificate_pem=pem(certificate.der),
        serial_hex=certificate.serial_hex,
        fingerprint=certificate.fingerprint,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
    )


async def _signed_before(issuer: Issuer, issuance: Issuance) -> Certificate:
    async with issuer.runtime.database.connection() as connection:
        before = await signed.claimed(connection, issuance.claim_id)
    if before is None or before.state == signed.VOIDED or before.certificate is None:
        raise CertwireError(ErrorCode.CLAIM_VOIDED)
    if not before.is_for(issuance):
        raise CertwireError(ErrorCode.CONFLICT, "the claim was used for something else")
    return before.certificate


def _outbox_row(issuer: str, order: Order, certificate: Certificate, subject: str) -> OutboxRow:
    profile, owned = order.profile, order.ownership
    facts = {
        "fingerprint": certificate.fingerprint,
        "serial_hex": certificate.serial_hex,
        "kind": profile.kind,
        "issuer": issuer,
        "subject": subject,
        "owner": order.identity.owner_id,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
    }
    return outbox_row(
        Service.ISSUER,
        order.call.request_id,
        order.actor,
        "cert_create",
        AuditObject(
            type="certificate",
            id=str(owned.certificate_id) if owned else certificate.fingerprint,
            name=subject,
            organization_id=owned.organization_id if owned else None,
        ),
        detail={
            "kind": profile.kind,
            "fingerprint": certificate.fingerprint,
            "serial_hex": certificate.serial_hex,
            "issuer": issuer,
            "not_after": rfc3339(certificate.not_after),
            "renews": order.renews,
        },
        event=CertificateRenewed(**facts, renews=order.renews)
        if order.renews
        else CertificateIssued(**facts),
        traceparent=order.call.traceparent,
    )
