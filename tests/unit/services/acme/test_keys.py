"""Keys and requests, as openssl reads them."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.acme.keys import csr_der, new_account_key, new_key, private_der, private_pem
from tests.support.programs import output_of


@pytest.mark.parametrize(("bits", "said"), [(2048, "2048 bit"), (None, "prime256v1")])
async def test_openssl_reads_request_and_key(bits: int | None, said: str, tmp_path: Path) -> None:
    key = new_key(bits)
    (tmp_path / "csr").write_bytes(csr_der(key, ["www.example.com", "*.example.com"]))
    (tmp_path / "key").write_text(private_pem(private_der(key)))
    text = await output_of(
        "openssl", "req", "-inform", "DER", "-in", tmp_path / "csr", "-text", "-noout", "-verify"
    )
    assert said in text
    assert "DNS:www.example.com, DNS:*.example.com" in text
    public = await output_of(
        "openssl", "req", "-inform", "DER", "-in", tmp_path / "csr", "-pubkey", "-noout"
    )
    assert await output_of("openssl", "pkey", "-in", tmp_path / "key", "-pubout") == public


def test_the_names_are_critical_where_the_subject_is_empty() -> None:
    csr = x509.load_der_x509_csr(csr_der(new_key(None), ["www.example.com"]))
    assert list(csr.subject) == []
    assert csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_keys_are_of_the_kind_that_was_asked_for() -> None:
    assert isinstance(new_account_key().curve, ec.SECP256R1)
    key = new_key(2048)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.public_key().public_numbers().e == 65537
