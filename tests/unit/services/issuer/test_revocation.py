"""Revocations by their owners, and claims that were given up."""

import asyncio
from datetime import UTC, datetime

import pytest

from contracts.certificates import RevocationReason, SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import (
    Revocation,
    RevokeInstanceCertificates,
    RevokeRegistryCertificates,
    SignAgentCertificate,
    VoidInstanceClaims,
    VoidRegistryClaims,
)
from services.issuer.handlers.platform import (
    revoke_instance_certificates,
    revoke_registry_certificates,
    sign_agent_certificate,
    sign_instance_certificate,
    void_instance_claims,
    void_registry_claims,
)
from services.issuer.service import Issuer
from shared.identifiers import uuid7
from tests.support.csr import csr_pem
from tests.support.running import call
from tests.unit.services.issuer.builders import ACTOR, order
from tests.unit.services.issuer.conftest import Records

REVOKED_AT = datetime(2026, 11, 21, 12, 0, 0, 123_456, tzinfo=UTC)


def revocation(
    certificate: SignedCertificate, reason: RevocationReason = RevocationReason.SUPERSEDED
) -> Revocation:
    return Revocation(
        fingerprint=certificate.fingerprint,
        reason=reason,
        detail="renewed",
        revoked_at=REVOKED_AT,
        actor=ACTOR,
        request_id="the-request-of-the-owner",
    )


def revoke(*certificates: SignedCertificate) -> RevokeInstanceCertificates:
    return RevokeInstanceCertificates(call=call(), revocations=tuple(map(revocation, certificates)))


async def sign_agent(issuer: Issuer) -> SignedCertificate:
    command = SignAgentCertificate(
        call=call(), claim_id=uuid7(), actor=ACTOR, csr_pem=csr_pem(), label="edge-1"
    )
    return await sign_agent_certificate(command, issuer)


async def revoked(records: Records) -> set[str]:
    return {row["fingerprint"] for row in await records.certificates() if row["revoked_at"]}


# --- Revoke --------------------------------------------------------------------------------------


async def test_records_what_the_owner_decided(issuer: Issuer, records: Records) -> None:
    certificate = await sign_instance_certificate(order(), issuer)
    await revoke_instance_certificates(revoke(certificate), issuer)
    (row,) = await records.certificates()
    assert row["revoked_at"] == REVOKED_AT
    assert (row["revocation_reason"], row["revocation_detail"]) == ("superseded", "renewed")
    ((entry, event),) = await records.outbox("cert_revoke")
    assert entry["request_id"] == "the-request-of-the-owner"
    assert entry["actor"]["id"] == ACTOR.id
    assert entry["object"]["id"] == event["fingerprint"] == certificate.fingerprint
    assert event["reason"] == "superseded"
    assert datetime.fromisoformat(event["revoked_at"]) == REVOKED_AT


async def test_the_same_revocation_twice_changes_nothing(issuer: Issuer, records: Records) -> None:
    certificate = await sign_instance_certificate(order(), issuer)
    command = revoke(certificate, certificate)
    await revoke_instance_certificates(command, issuer)
    before = await records.certificates()
    later = revocation(certificate, RevocationReason.KEY_COMPROMISE)
    await revoke_instance_certificates(command, issuer)
    await revoke_instance_certificates(command.model_copy(update={"revocations": (later,)}), issuer)
    assert await records.certificates() == before
    assert len(await records.outbox("cert_revoke")) == 1


async def test_revokes_only_what_the_owner_owns(issuer: Issuer, records: Records) -> None:
    ours, foreign = await sign_instance_certificate(order(), issuer), await sign_agent(issuer)
    reply = await revoke_instance_certificates(revoke(ours, foreign), issuer)
    assert reply.refused == (foreign.fingerprint,)
    assert await revoked(records) == {ours.fingerprint}
    command = RevokeRegistryCertificates(call=call(), revocations=(revocation(ours),))
    reply = await revoke_registry_certificates(command, issuer)
    assert reply.refused == (ours.fingerprint,)
    command = RevokeRegistryCertificates(call=call(), revocations=(revocation(foreign),))
    assert not (await revoke_registry_certificates(command, issuer)).refused
    assert await revoked(records) == {ours.fingerprint, foreign.fingerprint}


async def test_an_owner_cannot_revoke_a_ca(issuer: Issuer, records: Records) -> None:
    (row, _) = await records.rows("SELECT fingerprint FROM ca")
    item = Revocation(
        fingerprint=row["fingerprint"],
        reason=RevocationReason.UNSPECIFIED,
        revoked_at=REVOKED_AT,
        actor=ACTOR,
        request_id="r",
    )
    command = RevokeInstanceCertificates(call=call(), revocations=(item,))
    reply = await revoke_instance_certificates(command, issuer)
    assert reply.refused == (row["fingerprint"],)
    assert not await revoked(records)


async def test_an_unknown_certificate_holds_up_no_other(issuer: Issuer, records: Records) -> None:
    certificate = await sign_instance_certificate(order(), issuer)
    unknown = certificate.model_copy(update={"fingerprint": "0" * 64})
    reply = await revoke_instance_certificates(revoke(certificate, unknown), issuer)
    assert reply.refused == ("0" * 64,)
    assert await revoked(records) == {certificate.fingerprint}


async def test_overlapping_batches_at_once_record_each_once(
    issuer: Issuer, records: Records
) -> None:
    csr = csr_pem()
    certificates = await asyncio.gather(
        *(sign_instance_certificate(order(csr=csr), issuer) for _ in range(60))
    )
    batches = [certificates[n : n + 30] for n in range(0, 40, 10)]
    commands = [revoke(*batch) for batch in batches] + [revoke(*reversed(b)) for b in batches]
    await asyncio.gather(*(revoke_instance_certificates(c, issuer) for c in commands))
    assert len(await revoked(records)) == len(await records.outbox("cert_revoke")) == 60


# --- Void ----------------------------------------------------------------------------------------


async def test_what_was_signed_under_a_voided_claim_is_undelivered(
    issuer: Issuer, records: Records
) -> None:
    signed = order()
    certificate = await sign_instance_certificate(signed, issuer)
    command = VoidInstanceClaims(call=call(), claim_ids=(signed.claim_id, uuid7()))
    for _ in range(2):
        await void_instance_claims(command, issuer)
    (row,) = await records.certificates()
    assert (row["revocation_reason"], row["revocation_detail"]) == ("unspecified", "undelivered")
    assert len(await records.outbox("cert_void")) == 2
    ((entry, event),) = await records.outbox("cert_revoke")
    assert entry["actor"] == {
        "kind": "system",
        "id": "instance",
        "name": "instance",
        "fingerprint": None,
        "organization_id": None,
    }
    assert entry["request_id"] == command.call.request_id
    assert event["detail"] == "undelivered"
    assert event["fingerprint"] == certificate.fingerprint


async def test_a_claim_named_twice_is_voided_once(issuer: Issuer, records: Records) -> None:
    claim_id = uuid7()
    command = VoidInstanceClaims(call=call(), claim_ids=(claim_id, claim_id))
    await void_instance_claims(command, issuer)
    assert len(await records.outbox("cert_void")) == 1


async def test_a_certificate_that_was_revoked_stays_so_when_its_claim_is_voided(
    issuer: Issuer, records: Records
) -> None:
    command = order()
    await revoke_instance_certificates(
        revoke(await sign_instance_certificate(command, issuer)), issuer
    )
    void = VoidInstanceClaims(call=call(), claim_ids=(command.claim_id,))
    await void_instance_claims(void, issuer)
    (row,) = await records.certificates()
    assert row["revocation_reason"] == "superseded"
    assert len(await records.outbox("cert_revoke")) == 1


async def test_nobody_voids_the_claims_of_another_service(issuer: Issuer, records: Records) -> None:
    command = order()
    await sign_instance_certificate(command, issuer)
    void = VoidRegistryClaims(call=call(), claim_ids=(uuid7(), command.claim_id))
    with pytest.raises(CertwireError) as refused:
        await void_registry_claims(void, issuer)
    assert refused.value.code is ErrorCode.OWNED_ELSEWHERE
    assert not await revoked(records)
    assert not await records.outbox("cert_void")


async def test_voiding_the_same_claims_at_once_records_each_once(
    issuer: Issuer, records: Records
) -> None:
    claims = [uuid7() for _ in range(50)]
    commands = [
        VoidInstanceClaims(call=call(), claim_ids=tuple(ids))
        for ids in (claims, claims[::-1], claims[10:40], claims[40:] + claims[:20])
    ]
    await asyncio.gather(*(void_instance_claims(command, issuer) for command in commands))
    assert len(await records.outbox("cert_void")) == 50
