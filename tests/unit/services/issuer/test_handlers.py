"""Bundles, the gateway's certificate and the platform's CAs, as their callers get them."""

import asyncio

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import (
    GenerateAdminBundle,
    GenerateAgentBundle,
    GetPlatformCa,
    SignAdminCertificate,
    SignAgentCertificate,
    SignedBundle,
    SignGatewayCertificate,
    VoidRegistryClaims,
)
from services.issuer.handlers.platform import (
    generate_admin_bundle,
    generate_agent_bundle,
    get_platform_ca,
    sign_admin_certificate,
    sign_agent_certificate,
    sign_gateway_certificate,
    void_registry_claims,
)
from services.issuer.service import Issuer
from shared.identifiers import uuid7
from shared.x509 import fingerprint
from tests.support.csr import csr_pem, new_key
from tests.support.running import call
from tests.unit.services.issuer.builders import ACTOR
from tests.unit.services.issuer.conftest import Records


def generate() -> GenerateAdminBundle:
    return GenerateAdminBundle(call=call(), claim_id=uuid7(), actor=ACTOR)


def common_name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


# --- Bundles -------------------------------------------------------------------------------------


async def test_a_bundle_holds_key_certificate_and_chain(issuer: Issuer, records: Records) -> None:
    reply = await generate_admin_bundle(generate(), issuer)
    for data in (reply.pkcs12, reply.legacy_pkcs12):
        bundle = pkcs12.load_pkcs12(data, reply.password.encode())
        assert bundle.cert is not None
        assert bundle.key is not None
        assert isinstance(bundle.key, ec.EllipticCurvePrivateKey)
        assert bundle.cert.certificate.public_key() == bundle.key.public_key()
        assert common_name(bundle.cert.certificate) == "CN=admin"
        assert [common_name(above.certificate) for above in bundle.additional_certs] == [
            "CN=Certwire Issuing CA,O=Certwire",
            "CN=Certwire Root CA,O=Certwire",
        ]
    (row,) = await records.certificates()
    assert row["fingerprint"] == reply.certificate.fingerprint
    assert (row["kind"], row["owner_service"], row["owner_id"]) == ("admin", "registry", "admin")


async def test_no_secret_is_recorded(issuer: Issuer, records: Records) -> None:
    reply = await generate_admin_bundle(generate(), issuer)
    ((entry, event),) = await records.outbox()
    assert reply.password not in f"{entry} {event} {reply!r} {reply}"
    assert len(reply.password) == 32


async def test_a_repeated_claim_makes_no_second_bundle(issuer: Issuer, records: Records) -> None:
    command = generate()
    await generate_admin_bundle(command, issuer)
    with pytest.raises(CertwireError) as refused:
        await generate_admin_bundle(command, issuer)
    assert refused.value.code is ErrorCode.CLAIM_VOIDED
    assert len(await records.certificates()) == len(await records.outbox()) == 1


async def test_of_many_repeats_at_once_one_makes_a_bundle(issuer: Issuer) -> None:
    command = generate()
    ends = await asyncio.gather(
        *(generate_admin_bundle(command, issuer) for _ in range(8)), return_exceptions=True
    )
    assert len([end for end in ends if isinstance(end, SignedBundle)]) == 1


async def test_a_voided_claim_makes_no_bundle(issuer: Issuer, records: Records) -> None:
    command = generate()
    void = VoidRegistryClaims(call=call(), claim_ids=(command.claim_id,))
    await void_registry_claims(void, issuer)
    with pytest.raises(CertwireError) as refused:
        await generate_admin_bundle(command, issuer)
    assert refused.value.code is ErrorCode.CLAIM_VOIDED
    assert not await records.certificates()


async def test_an_agents_bundle_names_the_agent(issuer: Issuer) -> None:
    command = GenerateAgentBundle(call=call(), claim_id=uuid7(), actor=ACTOR, label="edge-1")
    reply = await generate_agent_bundle(command, issuer)
    bundle = pkcs12.load_pkcs12(reply.pkcs12, reply.password.encode())
    assert bundle.cert is not None
    assert bundle.cert.friendly_name == b"Certwire edge-1"
    assert common_name(bundle.cert.certificate) == "CN=agent:edge-1"


# --- Certificates for keys made elsewhere --------------------------------------------------------


async def test_signs_an_agents_own_key(issuer: Issuer, records: Records) -> None:
    command = SignAgentCertificate(
        call=call(), claim_id=uuid7(), actor=ACTOR, csr_pem=csr_pem(), label="edge-1"
    )
    reply = await sign_agent_certificate(command, issuer)
    assert await sign_agent_certificate(command, issuer) == reply
    (row,) = await records.certificates()
    assert (row["kind"], row["owner_id"], row["subject"]) == ("agent", "edge-1", "CN=agent:edge-1")


async def test_refuses_a_label_that_is_none(issuer: Issuer, records: Records) -> None:
    command = SignAgentCertificate(
        call=call(), claim_id=uuid7(), actor=ACTOR, csr_pem=csr_pem(), label="x,CN=admin"
    )
    with pytest.raises(CertwireError) as refused:
        await sign_agent_certificate(command, issuer)
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    assert not await records.certificates()


async def test_signs_an_administrators_own_key(issuer: Issuer, records: Records) -> None:
    key = new_key()
    command = SignAdminCertificate(
        call=call(), claim_id=uuid7(), actor=ACTOR, csr_pem=csr_pem(key), renews="a" * 64
    )
    reply = await sign_admin_certificate(command, issuer)
    certificate = x509.load_pem_x509_certificate(reply.certificate_pem.encode())
    assert certificate.public_key() == key.public_key()
    (row,) = await records.certificates()
    assert (row["kind"], row["renews"]) == ("admin", "a" * 64)


async def test_the_gateway_gets_the_names_of_the_setting(issuer: Issuer, records: Records) -> None:
    asked = x509.SubjectAlternativeName([x509.DNSName("bank.example")])
    command = SignGatewayCertificate(
        call=call(), claim_id=uuid7(), csr_pem=csr_pem(extensions=[asked])
    )
    reply = await sign_gateway_certificate(command, issuer)
    leaf, issuing = x509.load_pem_x509_certificates(reply.chain_pem.encode())
    leaf.verify_directly_issued_by(issuing)
    (row,) = await records.certificates()
    assert row["owner_service"] == "gateway"
    assert row["subject_alternative_names"] == [
        "DNS:localhost",
        "IP:127.0.0.1",
        "IP:::1",
        "DNS:pki.example.com",
    ]


# --- The platform's CAs --------------------------------------------------------------------------


async def test_the_platform_ca_is_the_root_and_what_it_issued(
    issuer: Issuer, records: Records
) -> None:
    reply = await get_platform_ca(GetPlatformCa(call=call()), issuer)
    root, issuing = x509.load_pem_x509_certificates(reply.ca_pem.encode())
    root.verify_directly_issued_by(root)
    issuing.verify_directly_issued_by(root)
    rows = await records.rows("SELECT certificate, fingerprint FROM ca ORDER BY id")
    assert [fingerprint(row["certificate"]) for row in rows] == [r["fingerprint"] for r in rows]
