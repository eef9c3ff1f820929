"""Keys of certificates and accounts, and certificate signing requests."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""Keys that are made here; uploads bring others."""


def new_key(rsa_bits: int | None) -> Key:
    """Return a new key: RSA of that size, or on P-256. RSA takes up to seconds: use a thread."""
    if rsa_bits is not None:
        return rsa.generate_private_key(65537, rsa_bits)
    return ec.generate_private_key(ec.SECP256R1())


def new_account_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key for an account: it signs with ES256 (RFC 8555 section 6.2)."""
    return ec.generate_private_key(ec.SECP256R1())


def private_der(key: Key | ed25519.Ed25519PrivateKey) -> bytes:
    """Return the key as PKCS#8 in DER, as it is sealed."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def load_key(der: bytes) -> Key:
    """Return a key that was made here; `der` is what `private_der` returned."""
    key = load_der_private_key(der, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)  # noqa: S101 - we made it
    return key


def load_account_key(der: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the key of an account."""
    key = load_key(der)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - as `new_account_key` has it
    return key


def private_pem(der: bytes) -> str:
    """Return a key as PKCS#8 in PEM, as servers read it; `der` is what `private_der` returned."""
    key = load_der_private_key(der, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def csr_der(key: Key, names: Sequence[str]) -> bytes:
    """Return a request for DNS names. Its subject is empty: CAs read names of the SAN alone."""
    alternative_names = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(alternative_names, critical=True)  # RFC 5280 section 4.2.1.6
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(Encoding.DER)
