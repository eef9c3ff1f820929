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
KDF_ROUNDS: Final = 2048
"""OpenSSL's own number. RFC 7292 asks for 1,024; a random password needs no more, and the loop
waits meanwhile: cryptography holds the interpreter's lock for some 3 ms a bundle."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The same content twice; `legacy` is for keychains that import nothing newer than 3DES."""

    pkcs12: bytes
    legacy: bytes
    password: str


def make(name: str, key: PrivateKey, certificate_der: bytes, chain: Sequence[bytes]) -> Bundle:
    """Make both bundles under a new password."""
    password = secrets.token_hex(PASSWORD_BYTES)
    certificate = x509.load_der_x509_certificate(certificate_der)
    cas = [x509.load_der_x509_certificate(der) for der in chain]
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(KDF_ROUNDS)
    modern = builder.key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC).hmac_hash(SHA256())
    weak = SHA1()  # noqa: S303 - what those keychains read; the password is 128 random bits
    legacy = builder.key_cert_algorithm(PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(weak)
    encoded = [
        pkcs12.serialize_key_and_certificates(
            name.encode(), key, certificate, cas, encryption.build(password.encode())
        )
        for encryption in (modern, legacy)
    ]
    return Bundle(encoded[0], encoded[1], password)
