"""CRL and OCSP responder of the root, whose key is a file."""

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as theirs

from services.issuer import root_status
from services.issuer.bootstrap import root_key_file, sign_root_crl
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from services.issuer.store import crls
from tests.unit.services.issuer.conftest import Records


async def root_of(issuer: Issuer) -> tuple[x509.Certificate, x509.CertificateRevocationList]:
    """Return the root and its last CRL, after checking the signature."""
    _, root = issuer.authorities.chain()
    certificate = x509.load_der_x509_certificate(root.certificate)
    held = await issuer.crls.current(root)
    assert held is not None
    parsed = x509.load_der_x509_crl(held.der)
    assert parsed.is_signature_valid(certificate.public_key())  # type: ignore[arg-type]  # a CA's key signs
    return certificate, parsed


async def revoke_the_issuing_ca(records: Records) -> int:
    """Let the root's next CRL list the issuing CA; return its serial."""
    (row,) = await records.rows(
        "INSERT INTO crl_waiting SELECT ca_id, serial_hex, now(), 'ca_compromise', not_after"
        " FROM certificate WHERE kind = 'issuing_ca' RETURNING serial_hex"
    )
    return int(row["serial_hex"], 16)


async def test_the_first_is_made_with_the_root(issuer: Issuer) -> None:
    _, parsed = await root_of(issuer)
    assert len(parsed) == 0
    assert parsed.next_update_utc is not None
    assert parsed.next_update_utc - parsed.last_update_utc == timedelta(days=396)
    assert not await issuer.warnings()


async def test_a_revocation_waits_for_the_root_to_be_opened(
    issuer: Issuer, settings: IssuerSettings, records: Records
) -> None:
    serial = await revoke_the_issuing_ca(records)
    async with issuer.runtime.database.connection() as connection:
        assert await crls.due(connection, 0) == []
    (warning,) = await issuer.warnings()
    assert warning == "the CRL of certwire-root-ca-1 lacks a revocation: run `certwire ca crl`"
    root, crl = await sign_root_crl(settings)
    assert (root.slug, crl.number, crl.entries) == ("certwire-root-ca-1", 2, 1)
    _, parsed = await root_of(issuer)
    assert [entry.serial_number for entry in parsed] == [serial]
    assert not await issuer.warnings()
    events = [event for _, event in await records.outbox("crl_publish")]
    assert events == [], "the operator's, like all of init"


async def test_warns_sixty_days_before_it_ends(issuer: Issuer, records: Records) -> None:
    await records.rows("UPDATE crl SET next_update = now() + interval '59 days'")
    (warning,) = await issuer.warnings()
    assert warning.startswith("the CRL of certwire-root-ca-1 ends on ")
    await records.rows("DELETE FROM crl")
    (warning,) = await issuer.warnings()
    assert warning == "certwire-root-ca-1 has no CRL: run `certwire ca crl`"


async def test_the_running_service_answers_for_the_root_without_its_key(
    issuer: Issuer, settings: IssuerSettings
) -> None:
    issuing, root = issuer.authorities.chain()
    key_file = root_key_file(settings)
    away = key_file.rename(key_file.with_suffix(".away"))
    try:
        certificate, _ = await root_of(issuer)
        asked = theirs.OCSPRequestBuilder().add_certificate(
            x509.load_der_x509_certificate(issuing.certificate), certificate, hashes.SHA256()
        )
        request = asked.build().public_bytes(Encoding.DER)
        answer = await issuer.responders.answer(root.slug, request)
    finally:
        away.rename(key_file)
    parsed = theirs.load_der_ocsp_response(answer.response)
    assert parsed.certificate_status is theirs.OCSPCertStatus.GOOD
    (responder,) = parsed.certificates
    responder.verify_directly_issued_by(certificate)
    validity = responder.not_valid_after_utc - responder.not_valid_before_utc
    assert validity == root_status.VALIDITY - timedelta(seconds=1)
