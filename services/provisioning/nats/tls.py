"""TLS of NATS servers of one's own: a CA for them alone, and the certificate they show.

NATS comes before the platform's own CA, which could therefore not sign it.
"""

import ipaddress
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.clock import utc_now
from shared.files import write_private

CA_FILE: Final = "nats-ca.crt"
CA_KEY_FILE: Final = "nats-ca.key"
SERVER_FILES: Final = ("tls.crt", "tls.key", "ca.crt")
"""What a server reads, beside its accounts; `ca.crt` is for the routes of a cluster."""
CA_LIFETIME: Final = timedelta(days=3650)
SERVER_LIFETIME: Final = timedelta(days=730)
"""Renewed when half of it is over, so that an update a year is enough."""
BACKDATING: Final = timedelta(minutes=5)  # for clocks that are behind


def ensure_certificate(directory: Path, secrets: Path, names: Sequence[str]) -> None:
    """Make the servers' certificate in `directory`, and the CA in `secrets`; what is good stays.

    `names` are the DNS names and IP addresses by which clients and other servers reach them.
    """
    ca, ca_key = _ensure_ca(secrets)
    certificate_file, key_file, ca_file = (directory / name for name in SERVER_FILES)
    wanted = x509.SubjectAlternativeName([_general_name(name) for name in names])
    if not key_file.is_file() or not _is_good(certificate_file, ca, wanted):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(names[0], ca.subject, key, ca_key, SERVER_LIFETIME)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]  # both: routes
        certificate = (
            builder.add_extension(wanted, critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .sign(ca_key, SHA256())
        )
        # The certificate last: as long as it is missing or an old one, both are made anew.
        write_private(key_file, _key_pem(key))
        write_private(certificate_file, certificate.public_bytes(Encoding.PEM))
    write_private(ca_file, ca.public_bytes(Encoding.PEM))


def _ensure_ca(secrets: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_file, key_file = secrets / CA_FILE, secrets / CA_KEY_FILE
    if not certificate_file.is_file():
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Certwire NATS CA")
        certificate = (
            _builder("Certwire NATS CA", name, key, key, CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(key, SHA256())
        )
        write_private(key_file, _key_pem(key))
        write_private(certificate_file, certificate.public_bytes(Encoding.PEM))
    loaded = load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)  # noqa: S101 - written above
    return x509.load_pem_x509_certificate(certificate_file.read_bytes()), loaded


def _is_good(file: Path, ca: x509.Certificate, wanted: x509.SubjectAlternativeName) -> bool:
    """Return whether a certificate is there, ours, young, and for these names."""
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        certificate.verify_directly_issued_by(ca)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (OSError, ValueError, InvalidSignature, x509.ExtensionNotFound):
        return False
    left = certificate.not_valid_after_utc - utc_now()
    return names.value == wanted and left > SERVER_LIFETIME / 2


def _builder(
    common_name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    begins = utc_now() - BACKDATING
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority, critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
