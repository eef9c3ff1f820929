"""Chains, and the names of certificates in ARI."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from josepy.b64 import b64decode

from services.acme.client import certificate_id
from services.acme.client.certificates import Chain, preferred
from shared.clock import utc_now
from tests.support.authority import Authority
from tests.support.csr import csr_pem, new_key


def certificate(
    *, serial: int = 1, issuer: str | None = "issuer", key_identifier: bytes | None = None
) -> x509.Certificate:
    """Return a certificate of nobody in particular."""
    key = new_key()
    names = [] if issuer is None else [x509.NameAttribute(NameOID.COMMON_NAME, issuer)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name(names))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(utc_now())
        .not_valid_after(utc_now() + timedelta(days=1))
    )
    if key_identifier is not None:
        extension = x509.AuthorityKeyIdentifier(key_identifier or None, None, None)
        if not key_identifier:
            name = x509.DirectoryName(x509.Name([]))
            extension = x509.AuthorityKeyIdentifier(None, [name], 1)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, SHA256())


def test_the_id_of_rfc_9773_section_4_1() -> None:
    identifier = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    made = certificate(serial=0x87654321, key_identifier=identifier)
    assert certificate_id(made) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, 0xFF, 0x100, 2**159 - 1])
def test_serials_are_as_in_der(serial: int) -> None:
    made = certificate(serial=serial, key_identifier=b"key")
    der = made.tbs_certificate_bytes
    name = certificate_id(made)
    assert name is not None
    octets = b64decode(name.split(".")[1])
    assert bytes([2, len(octets)]) + octets in der
    assert int.from_bytes(octets, "big", signed=True) == serial


@pytest.mark.parametrize("key_identifier", [None, b""])
def test_no_id_without_the_issuers_key(key_identifier: bytes | None) -> None:
    assert certificate_id(certificate(key_identifier=key_identifier)) is None


def test_a_chain() -> None:
    authority = Authority("Some")
    pem = authority.server_chain(csr_pem())
    chain = Chain.parse(("\n" + pem.replace("\n", "\r\n") + "\n\n").encode())
    assert chain.pem == pem
    assert chain.issuer_names() == ["Some Issuing", "Some Root"]
    assert chain.certificates[1] == authority.issuing


def test_the_leaf_alone_is_a_chain() -> None:
    pem = certificate(issuer=None).public_bytes(Encoding.PEM)
    assert Chain.parse(pem).issuer_names() == [""]


def test_which_chain_is_preferred() -> None:
    long = Chain((certificate(issuer="R3"), certificate(issuer="X1"), certificate(issuer="X3")))
    short = Chain((certificate(issuer="R3"), certificate(issuer="X1")))
    assert preferred([long, short], "X1") is short
    assert preferred([long, short], "X3") is long
    assert preferred([short, long], "R3") is short
    assert preferred([short, long], "X2") is short
    assert preferred([Chain((certificate(issuer="R4"),)), long], "R3") is long
