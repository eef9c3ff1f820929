"""CRLs and OCSP of users' CAs, whatever their keys and whatever became of them."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus

from contracts.certificates import CertificateKind
from contracts.pki import (
    CaView,
    CertificateView,
    DeleteCa,
    KeyType,
    NameConstraints,
    RetireCa,
    RevokeCertificate,
)
from services.issuer.handlers.cas import delete_ca, retire_ca
from services.issuer.handlers.certificates import create_certificate, revoke_certificate
from services.issuer.service import Issuer
from services.issuer.store import cas, crls
from tests.support.running import call
from tests.unit.services.issuer.user_certificates import a_ca, creation, loaded
from tests.unit.services.issuer.users import ADMIN

KEYS = (
    (KeyType.RSA, 2048),
    (KeyType.EC, 384),
    (KeyType.EC, 521),
    (KeyType.ED25519, None),
)


async def issued(issuer: Issuer, ca: CaView, name: str = "api.example.com") -> CertificateView:
    made = creation(ca, common_name=name, subject_dn=f"CN={name}", include_private_key=False)
    return (await create_certificate(made, issuer)).certificate


async def revoke(issuer: Issuer, certificate: CertificateView, reason: str) -> None:
    """Revoke it, and let those who have to make their CRLs."""
    command = RevokeCertificate(
        call=call(), actor=ADMIN, certificate_id=certificate.id, reason=reason
    )
    await revoke_certificate(command, issuer)
    async with issuer.runtime.database.connection() as connection:
        due = await crls.due(connection, 0)
    for ca_id in due:
        await issuer.crls.make(ca_id)


async def crl_of(issuer: Issuer, ca: CaView) -> x509.CertificateRevocationList:
    async with issuer.runtime.database.connection() as connection:
        row = await cas.by_slug(connection, ca.slug)
    assert row is not None
    held = await issuer.crls.current(row)
    assert held is not None
    parsed = x509.load_der_x509_crl(held.der)
    assert parsed.is_signature_valid(loaded(ca.certificate_pem).public_key())  # type: ignore[arg-type]  # a CA's key signs
    return parsed


async def status_of(issuer: Issuer, ca: CaView, certificate_pem: str) -> OCSPCertStatus:
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        loaded(certificate_pem), loaded(ca.certificate_pem), hashes.SHA256()
    )
    answer = await issuer.responders.answer(ca.slug, builder.build().public_bytes(Encoding.DER))
    parsed = ocsp.load_der_ocsp_response(answer.response)
    (responder,) = parsed.certificates
    responder.verify_directly_issued_by(loaded(ca.certificate_pem))
    return parsed.certificate_status


@pytest.mark.parametrize(("key_type", "key_size"), KEYS)
async def test_by_every_kind_of_key(
    issuer: Issuer, key_type: KeyType, key_size: int | None
) -> None:
    ca = await a_ca(issuer, key_type=key_type, key_size=key_size)
    assert len(await crl_of(issuer, ca)) == 0
    certificate = await issued(issuer, ca)
    assert await status_of(issuer, ca, certificate.certificate_pem) is OCSPCertStatus.GOOD
    await revoke(issuer, certificate, "Key Compromise!")
    assert await status_of(issuer, ca, certificate.certificate_pem) is OCSPCertStatus.REVOKED
    entry = (await crl_of(issuer, ca)).get_revoked_certificate_by_serial_number(
        int(certificate.serial_hex, 16)
    )
    assert entry is not None
    (reason,) = [extension.value for extension in entry.extensions]
    assert reason == x509.CRLReason(x509.ReasonFlags.key_compromise)


async def test_a_constrained_ca_has_a_responder_too(issuer: Issuer) -> None:
    constraints = NameConstraints(permitted_dns_names=("example.com",))
    ca = await a_ca(issuer, name_constraints=constraints)
    certificate = await issued(issuer, ca)
    assert await status_of(issuer, ca, certificate.certificate_pem) is OCSPCertStatus.GOOD


async def test_a_revoked_ca_is_on_the_list_above_it_and_goes_on_with_its_own(
    issuer: Issuer,
) -> None:
    root = await a_ca(issuer)
    below = await a_ca(issuer, "Acme Issuing", parent_ca_id=root.id)
    leaf, other = await issued(issuer, below), await issued(issuer, below, "b.example.com")
    async with issuer.runtime.database.connection() as connection:
        own_id = await connection.fetchval(
            "SELECT id FROM certificate WHERE for_ca_id = $1", below.id
        )
    await revoke(issuer, leaf.model_copy(update={"id": own_id}), "CA compromise")
    assert await status_of(issuer, root, below.certificate_pem) is OCSPCertStatus.REVOKED
    assert [entry.serial_number for entry in await crl_of(issuer, root)] == [
        int(below.serial_hex, 16)
    ]
    await revoke(issuer, leaf, "superseded")
    assert await status_of(issuer, below, leaf.certificate_pem) is OCSPCertStatus.REVOKED
    assert await status_of(issuer, below, other.certificate_pem) is OCSPCertStatus.GOOD
    assert len(await crl_of(issuer, below)) == 1


@pytest.mark.parametrize("end", [RetireCa, DeleteCa])
async def test_a_ca_that_is_out_of_use_goes_on(
    issuer: Issuer, end: type[RetireCa] | type[DeleteCa]
) -> None:
    ca = await a_ca(issuer)
    certificate = await issued(issuer, ca)
    await revoke(issuer, certificate, "unspecified")
    if end is RetireCa:
        await retire_ca(RetireCa(call=call(), actor=ADMIN, ca_id=ca.id), issuer)
    else:
        await delete_ca(DeleteCa(call=call(), actor=ADMIN, ca_id=ca.id), issuer)
    assert len(await crl_of(issuer, ca)) == 1
    assert await status_of(issuer, ca, certificate.certificate_pem) is OCSPCertStatus.REVOKED


async def test_cas_with_the_same_name_are_told_apart(issuer: Issuer) -> None:
    first, second = await a_ca(issuer), await a_ca(issuer)
    certificate = await issued(issuer, first)
    assert certificate.certificate_type is CertificateKind.SERVER
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        loaded(certificate.certificate_pem), loaded(first.certificate_pem), hashes.SHA256()
    )
    answer = await issuer.responders.answer(second.slug, builder.build().public_bytes(Encoding.DER))
    parsed = ocsp.load_der_ocsp_response(answer.response)
    assert parsed.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED
