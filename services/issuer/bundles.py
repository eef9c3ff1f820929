"""PKCS #12 bundles: a new key, its certificate and the CAs above, under a password."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from cryptography.hazmat.primitives.serialization.pkcs12 import PBES

from services.issuer.keys import PrivateKey

PASSWORD_BYTES: Final = 16
"""32 hex digits."""
KDF_ROUNDS: Final = 10_000
"""RFC 7292 section 6 asks for 1,024 at least; the password is random, so no more is needed."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The same content twice; `legacy` is for keychains that import nothing newer than 3DES."""

    pkcs12: bytes
    legacy: bytes
    password: str


def make(name: str, key: PrivateKey, certificate_der: bytes, chain: Sequence[bytes]) -> Bundle:
    """Make a bundle under a new password; takes tens of milliseconds."""
    password = secrets.token_hex(PASSWORD_BYTES)
    certificate = x509.load_der_x509_certificate(certificate_der)
    cas = [x509.load_der_x509_certificate(der) for der in chain]
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(KDF_ROUNDS)
    modern = builder.key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC).hmac_hash(SHA256())
    # SHA-1 and 3DES are what those keychains read; the password is 128 random bits.
    legacy = builder.key_cert_algorithm(PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(SHA1())  # noqa: S303
    encoded = [
        pkcs12.serialize_key_and_certificates(
            name.encode(), key, certificate, cas, encryption.build(password.encode())
        )
        for encryption in (modern, legacy)
    ]
    return Bundle(encoded[0], encoded[1], password)
