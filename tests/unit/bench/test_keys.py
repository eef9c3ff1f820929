import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.bench.keys import check_certificate, key_and_request, server_chain_and_key

CHAIN_PEM, KEY_PEM = server_chain_and_key()
ISSUER, SERVER_CA = x509.load_pem_x509_certificates(CHAIN_PEM)
REQUEST = key_and_request("one")


def issued(hours: int = 24, key_pem: bytes = KEY_PEM) -> str:
    """A certificate for REQUEST that names ISSUER, whose key is `KEY_PEM`."""
    issuer_key = load_pem_private_key(key_pem, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    request = x509.load_pem_x509_csr(REQUEST.csr_pem.encode())
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder(subject_name=request.subject, public_key=request.public_key())
        .issuer_name(ISSUER.subject)
        .serial_number(4711)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(hours=hours))
    )
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_the_server_s_chain_is_one() -> None:
    ISSUER.verify_directly_issued_by(SERVER_CA)


def test_the_request_is_signed_by_its_key() -> None:
    request = x509.load_pem_x509_csr(REQUEST.csr_pem.encode())
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=instance:one"


def test_a_good_certificate_gives_its_serial() -> None:
    assert check_certificate(issued(), REQUEST, ISSUER) == 4711


def test_refuses_a_certificate_for_another_key() -> None:
    with pytest.raises(ValueError, match="another key"):
        check_certificate(issued(), key_and_request("one"), ISSUER)


def test_refuses_a_certificate_that_another_key_signed() -> None:
    with pytest.raises(ValueError, match="another CA"):
        check_certificate(issued(key_pem=server_chain_and_key()[1]), REQUEST, ISSUER)


@pytest.mark.parametrize("hours", [1, 48])
def test_refuses_another_lifetime(hours: int) -> None:
    with pytest.raises(ValueError, match="valid for another"):
        check_certificate(issued(hours), REQUEST, ISSUER)
