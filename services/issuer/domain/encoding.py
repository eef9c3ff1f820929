"""Certificates in DER, assembled from parts (RFC 5280 section 4.1, X.690).

cryptography's builder goes through Python objects for every field of every certificate. Here what
all certificates of one CA and profile share is encoded once, as a `Template`.
"""

import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.x509 import PublicKey

_BOOLEAN_TRUE: Final = b"\x01\x01\xff"
_NULL: Final = b"\x05\x00"
_LAST_UTC_TIME_YEAR: Final = 2049
"""RFC 5280 section 4.1.2.5: GeneralizedTime from 2050 on."""


def header(tag: int, size: int) -> bytes:
    """Return tag and length of a content of `size` octets (X.690 section 8.1)."""
    if size < 0x80:  # noqa: PLR2004 - the short form
        return bytes((tag, size))
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length


def element(tag: int, *content: bytes) -> bytes:
    """Return tag, length and content."""
    joined = b"".join(content)
    return header(tag, len(joined)) + joined


def sequence(*content: bytes) -> bytes:
    """Return a SEQUENCE."""
    return element(0x30, *content)


def integer(value: int) -> bytes:
    """Return an INTEGER that is not negative."""
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1))


def bit_string(content: bytes) -> bytes:
    """Return a BIT STRING of whole octets."""
    return element(0x03, b"\x00", content)


def octet_string(content: bytes) -> bytes:
    """Return an OCTET STRING."""
    return element(0x04, content)


@cache
def object_identifier(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER (X.690 section 8.19)."""
    first, second, *others = map(int, dotted.split("."))
    return element(0x06, *map(_base_128, (40 * first + second, *others)))


def _base_128(arc: int) -> bytes:
    digits = [arc & 0x7F]
    while arc := arc >> 7:
        digits.append(0x80 | arc & 0x7F)
    return bytes(reversed(digits))


def time(moment: datetime) -> bytes:
    """Return a Time in whole seconds; `moment` is in UTC."""
    if moment.year <= _LAST_UTC_TIME_YEAR:
        return element(0x17, f"{moment:%y%m%d%H%M%SZ}".encode())
    return generalized_time(moment)


def generalized_time(moment: datetime) -> bytes:
    """Return a GeneralizedTime in whole seconds; `moment` is in UTC."""
    return element(0x18, f"{moment:%Y%m%d%H%M%SZ}".encode())


def extension(value: x509.ExtensionType, *, critical: bool) -> bytes:
    """Return an Extension (RFC 5280 section 4.1)."""
    return sequence(
        object_identifier(value.oid.dotted_string),
        _BOOLEAN_TRUE if critical else b"",
        octet_string(value.public_bytes()),
    )


_ECDSA: Final = {"secp256r1": 2, "secp384r1": 3, "secp521r1": 4}
"""Last arc of ecdsa-with-SHA256, -SHA384 and -SHA512 (RFC 5758), by the curve of the CA's key."""


def signature_algorithm(key: PublicKey) -> bytes:
    """Return the AlgorithmIdentifier of signatures by the key.

    ECDSA with the SHA-2 of the curve's size (RFC 5758), RSA PKCS #1 v1.5 with SHA-256 (RFC 4055),
    or Ed25519 (RFC 8410).
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        return sequence(object_identifier(f"1.2.840.10045.4.3.{_ECDSA[key.curve.name]}"))
    if isinstance(key, rsa.RSAPublicKey):
        return sequence(object_identifier("1.2.840.113549.1.1.11"), _NULL)
    return sequence(object_identifier("1.3.101.112"))


def public_key_bits(public_key_der: bytes) -> bytes:
    """Return the `subjectPublicKey` of a SubjectPublicKeyInfo, without its count of unused bits."""
    _, outer, _ = _header(public_key_der, 0)
    _, start, size = _header(public_key_der, outer)  # AlgorithmIdentifier
    _, start, size = _header(public_key_der, start + size)
    return public_key_der[start + 1 : start + size]


def _header(der: bytes, offset: int) -> tuple[int, int, int]:
    """Return tag, start of the content and its size."""
    size = der[offset + 1]
    if size < 0x80:  # noqa: PLR2004 - the short form
        return der[offset], offset + 2, size
    start = offset + 2 + (size & 0x7F)
    return der[offset], start, int.from_bytes(der[offset + 2 : start])


@dataclass(frozen=True, slots=True)
class Template:
    """What all certificates of one profile under one CA share, in DER."""

    issuer: bytes
    signature_algorithm: bytes
    extensions: bytes

    @classmethod
    def prepare(
        cls,
        issuer: x509.Name,
        issuer_key: PublicKey,
        extensions: Iterable[tuple[x509.ExtensionType, bool]],
    ) -> "Template":
        """Encode the parts; `extensions` come with whether they are critical."""
        return cls(
            issuer.public_bytes(),
            signature_algorithm(issuer_key),
            b"".join(extension(value, critical=critical) for value, critical in extensions),
        )

    def to_be_signed(
        self,
        serial: int,
        not_before: datetime,
        not_after: datetime,
        subject: x509.Name,
        public_key_der: bytes,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
    ) -> bytes:
        """Return the TBSCertificate; `extensions` follow those of the template."""
        own = [extension(value, critical=critical) for value, critical in extensions]
        return sequence(
            b"\xa0\x03\x02\x01\x02",  # version: v3
            integer(serial),
            self.signature_algorithm,
            self.issuer,
            sequence(time(not_before), time(not_after)),
            subject.public_bytes(),
            public_key_der,
            element(0xA3, sequence(self.extensions, *own)),
        )

    def certificate(self, to_be_signed: bytes, signature: bytes) -> bytes:
        """Return the Certificate."""
        return sequence(to_be_signed, self.signature_algorithm, bit_string(signature))


def pem(der: bytes) -> str:
    """Return a certificate in PEM (RFC 7468)."""
    return ssl.DER_cert_to_PEM_cert(der)
