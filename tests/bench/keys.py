"""P-256 keys and CSRs of the clients, checks of what they get, a server certificate for OpenBao."""

import datetime as dt
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class KeyAndRequest:
    private_key_pem: str
    public_key_der: bytes
    csr_pem: str


def key_and_request(instance_id: str) -> KeyAndRequest:
    """A fresh key with the CSR that an instance of this id would send."""
    uri = x509.UniformResourceIdentifier(f"spiffe://bench.test/instance/{instance_id}")
    return _key_and_request(f"instance:{instance_id}", uri)


def server_key_and_request(host: str) -> KeyAndRequest:
    """A fresh key with the CSR of a TLS server."""
    return _key_and_request(host, x509.DNSName(host))


def _key_and_request(common_name: str, name: x509.GeneralName) -> KeyAndRequest:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(common_name))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyAndRequest(
        _private_pem(key).decode(),
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        csr.public_bytes(Encoding.PEM).decode(),
    )


def server_chain_and_key() -> tuple[bytes, bytes]:
    """A certificate for localhost and its CA, as long a chain as Certwire's; and its key. PEM."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("Bench Server CA")
    ca = (
        _certificate(ca_name, ca_key.public_key(), ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_KEY_USAGE, critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        _certificate(_name("localhost"), key.public_key(), ca_name, ca_key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    chain = leaf.public_bytes(Encoding.PEM) + ca.public_bytes(Encoding.PEM)
    return chain, _private_pem(key)


_CA_KEY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _certificate(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    """What both have; the key identifiers are for OpenSSL's strict checks."""
    now = dt.datetime.now(dt.UTC)
    subject_id = x509.SubjectKeyIdentifier.from_public_key(public_key)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    return (
        x509.CertificateBuilder(issuer, subject, public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(subject_id, critical=False)
        .add_extension(issuer_id, critical=False)
    )


def check_certificate(
    certificate_pem: str, request: KeyAndRequest, issuer: x509.Certificate
) -> int:
    """Return the serial. Raises ValueError unless it is for this key, by this issuer, for a day."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature as error:
        raise ValueError("another CA signed the certificate") from error
    public_key = certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    if public_key != request.public_key_der:
        raise ValueError("the certificate is for another key")
    left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    if not dt.timedelta(hours=23) < left <= dt.timedelta(hours=24):
        raise ValueError(f"the certificate is valid for another {left}")
    return certificate.serial_number


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
