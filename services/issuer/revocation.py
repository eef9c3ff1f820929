"""Revocations that an owner has decided, and claims that it has given up."""

from collections.abc import Iterable, Mapping
from typing import Final

from contracts.audit import AuditObject
from contracts.certificates import CertificateKind, RevocationReason
from contracts.errors import CertwireError, ErrorCode
from contracts.events import CertificateRevoked
from contracts.issuer import (
    RecordedRevocations,
    Revocation,
    RevokeOwnedCertificates,
    VoidClaims,
)
from contracts.messages import Done
from contracts.principal import system
from contracts.subjects import Service
from services.issuer.service import Issuer
from services.issuer.store import revoked
from services.issuer.store.revoked import Recorded
from shared.clock import utc_now
from shared.unit_of_work import UnitOfWork

UNDELIVERED: Final = "undelivered"


async def revoke(
    issuer: Issuer, command: RevokeOwnedCertificates, owner: Service
) -> RecordedRevocations:
    """Record revocations of an owner's certificates; those on record change nothing.

    What is unknown or another owner's is refused by itself, so that it holds up nothing.
    """
    revocations = {item.fingerprint: item for item in reversed(command.revocations)}
    async with issuer.runtime.unit_of_work(command) as work:
        certificates = await revoked.lock(work.connection, revocations)
        owned = [c for c in certificates if c.owner_service == owner]
        await _revoke(work, owned, revocations)
        refused = revocations.keys() - {certificate.fingerprint for certificate in owned}
        return await work.answer(RecordedRevocations(refused=tuple(sorted(refused))))


async def void(issuer: Issuer, command: VoidClaims, owner: Service) -> Done:
    """Refuse claims from now on, and revoke what was signed under them; repeats change nothing.

    Raises `OWNED_ELSEWHERE` for a claim of another service.
    """
    actor, now = system(owner), utc_now()
    async with issuer.runtime.unit_of_work(command) as work:
        voided = await revoked.void(work.connection, command.claim_ids, owner)
        if await revoked.has_foreign_claims(work.connection, command.claim_ids, owner):
            raise CertwireError(ErrorCode.OWNED_ELSEWHERE)
        for claim_id in voided:
            claim = AuditObject(type="claim", id=str(claim_id), name="")
            work.record(actor, "cert_void", claim)
        undelivered = {
            fingerprint: Revocation(
                fingerprint=fingerprint,
                reason=RevocationReason.UNSPECIFIED,
                detail=UNDELIVERED,
                revoked_at=now,
                actor=actor,
                request_id=command.call.request_id,
            )
            for fingerprint in voided.values()
            if fingerprint is not None
        }
        certificates = await revoked.lock(work.connection, undelivered)
        await _revoke(work, certificates, undelivered)
        return await work.answer(Done())


async def _revoke(
    work: UnitOfWork, certificates: Iterable[Recorded], revocations: Mapping[str, Revocation]
) -> None:
    new = [certificate for certificate in certificates if not certificate.revoked]
    if not new:
        return
    items = [revocations[certificate.fingerprint] for certificate in new]
    await revoked.revoke(
        work.connection,
        [(item.fingerprint, item.revoked_at, item.reason, item.detail) for item in items],
    )
    for certificate, item in zip(new, items, strict=True):
        work.record(
            item.actor,
            "cert_revoke",
            AuditObject(type="certificate", id=certificate.fingerprint, name=certificate.subject),
            detail={
                "kind": certificate.kind,
                "serial_hex": certificate.serial_hex,
                "reason": item.reason,
                "detail": item.detail,
            },
            event=_revoked(certificate, item),
            request_id=item.request_id,
        )


def _revoked(certificate: Recorded, item: Revocation) -> CertificateRevoked:
    return CertificateRevoked(
        fingerprint=certificate.fingerprint,
        serial_hex=certificate.serial_hex,
        kind=CertificateKind(certificate.kind),
        issuer=certificate.issuer,
        subject=certificate.subject,
        owner=certificate.owner_id,
        revoked_at=item.revoked_at,
        reason=item.reason,
        detail=item.detail,
    )
