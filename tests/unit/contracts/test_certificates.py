"""The names of kinds and reasons, which are on record for ever."""

from contracts.certificates import CertificateKind, RevocationReason, SignedCertificate


def test_reasons_are_those_of_rfc_5280_that_end_a_certificate() -> None:
    assert "certificate_hold" not in set(RevocationReason)
    assert "remove_from_crl" not in set(RevocationReason)
    assert len(RevocationReason) == 8


def test_each_kind_has_its_own_name() -> None:
    assert [kind.value for kind in CertificateKind] == [
        kind.name.lower() for kind in CertificateKind
    ]


def test_a_signed_certificate_survives_the_bus() -> None:
    text = (
        '{"certificate_pem":"PEM","serial_hex":"1f","fingerprint":"%s",'
        '"not_before":"2026-11-21T12:00:00Z","not_after":"2026-11-22T11:59:59Z"}' % ("0" * 64)
    )
    certificate = SignedCertificate.model_validate_json(text)
    assert certificate.model_dump_json() == text
