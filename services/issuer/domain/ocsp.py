"""OCSP in DER: requests read, responses assembled (RFC 6960, RFC 5019, RFC 9654).

cryptography reads requests about one certificate only, and builds responses about one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from cryptography import x509

from services.issuer.domain.crl import REASON_CODES
from services.issuer.domain.decoding import (
    BOOLEAN,
    NULL,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    Reader,
    explicit,
)
from services.issuer.domain.encoding import (
    bit_string,
    element,
    generalized_time,
    object_identifier,
    octet_string,
    public_key_bits,
    sequence,
)

MOST_CERTIFICATES: Final = 100
"""In one request; each is looked up."""
NONCE_OCTETS: Final = range(1, 129)
"""RFC 9654 section 2.1."""
SERIAL_OCTETS: Final = 20
"""RFC 5280 section 4.1.2.2: no longer one is ours."""

_BASIC: Final = object_identifier("1.3.6.1.5.5.7.48.1.1")
_NONCE: Final = object_identifier("1.3.6.1.5.5.7.48.1.2")
_HASHES: Final[Mapping[bytes, str]] = {
    object_identifier("1.3.14.3.2.26"): "sha1",
    object_identifier("2.16.840.1.101.3.4.2.1"): "sha256",
    object_identifier("2.16.840.1.101.3.4.2.2"): "sha384",
    object_identifier("2.16.840.1.101.3.4.2.3"): "sha512",
}
"""What a CertID may be made with; the first by most clients (RFC 5019 section 2.1.1)."""


class ErrorStatus(IntEnum):
    """OCSPResponseStatus without success (RFC 6960 section 4.2.1)."""

    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    UNAUTHORIZED = 6


def error_response(status: ErrorStatus) -> bytes:
    """Return an OCSPResponse without an answer."""
    return sequence(element(0x0A, bytes((status,))))


@dataclass(frozen=True, slots=True)
class CertId:
    """What a client asks about. `der` is the whole CertID, for the response repeats it."""

    der: bytes
    algorithm: str | None
    name_hash: bytes
    key_hash: bytes
    serial: int

    @property
    def serial_hex(self) -> str | None:
        """Return the serial number as it is stored, or None for one that is nobody's."""
        if self.serial <= 0 or self.serial.bit_length() >= 8 * SERIAL_OCTETS:
            return None
        return f"{self.serial:x}"


@dataclass(frozen=True, slots=True)
class OcspRequest:
    """What was asked; `nonce` is what the response has to repeat."""

    certificates: tuple[CertId, ...]
    nonce: bytes | None


def parse_request(der: bytes) -> OcspRequest:
    """Read an OCSPRequest. Its signature, if it has one, is not looked at: anybody may ask.

    Raises ValueError for what is malformed, asks about nothing or too much, has a nonce of a
    length that is refused, or a critical extension that is not understood.
    """
    whole = Reader(der)
    request = whole.inside(SEQUENCE)
    whole.finish()
    asked = request.inside(SEQUENCE)
    if request.more:
        request.whole(explicit(0))  # optionalSignature
    request.finish()
    if asked.next_is(explicit(0)) and asked.inside(explicit(0)).integer() != 0:
        raise ValueError("not version 1")
    if asked.next_is(explicit(1)):
        asked.whole(explicit(1))  # requestorName
    certificates, listed = [], asked.inside(SEQUENCE)
    while listed.more:
        certificates.append(_single(listed.inside(SEQUENCE)))
    nonce = _extensions(asked.inside(explicit(2))) if asked.more else None
    asked.finish()
    if not 0 < len(certificates) <= MOST_CERTIFICATES:
        raise ValueError(f"about one to {MOST_CERTIFICATES} certificates")
    return OcspRequest(tuple(certificates), nonce)


def _single(request: Reader) -> CertId:
    """Read a Request."""
    der = request.whole(SEQUENCE)
    if request.more:
        _extensions(request.inside(explicit(0)))
    request.finish()
    cert_id = Reader(der).inside(SEQUENCE)
    algorithm = cert_id.inside(SEQUENCE)
    identifier = algorithm.whole(OBJECT_IDENTIFIER)
    if algorithm.more and algorithm.content(NULL):
        raise ValueError("a NULL with a content")
    algorithm.finish()
    found = CertId(
        der,
        _HASHES.get(identifier),
        cert_id.content(OCTET_STRING),
        cert_id.content(OCTET_STRING),
        cert_id.integer(),
    )
    cert_id.finish()
    return found


def _extensions(wrapped: Reader) -> bytes | None:
    """Read Extensions; return the nonce."""
    nonce, extensions = None, wrapped.inside(SEQUENCE)
    wrapped.finish()
    while extensions.more:
        extension = extensions.inside(SEQUENCE)
        identifier = extension.whole(OBJECT_IDENTIFIER)
        critical = extension.next_is(BOOLEAN) and extension.content(BOOLEAN) != b"\x00"
        value = Reader(extension.content(OCTET_STRING))
        extension.finish()
        if identifier == _NONCE:
            nonce = value.content(OCTET_STRING)
            value.finish()
            if len(nonce) not in NONCE_OCTETS:
                raise ValueError("a nonce has 1 to 128 octets")
        elif critical:
            raise ValueError("a critical extension that is not understood")
    return nonce


@dataclass(frozen=True, slots=True)
class IssuerIds:
    """The hashes by which CertIDs name a CA."""

    name: bytes
    key_bits: bytes

    @classmethod
    def of(cls, certificate: x509.Certificate, public_key_der: bytes) -> "IssuerIds":
        """Return those of a CA by its certificate and SubjectPublicKeyInfo."""
        return cls(certificate.subject.public_bytes(), public_key_bits(public_key_der))

    def issued(self, cert_id: CertId) -> bool:
        """Return whether it speaks of a certificate of this CA: by name and by key."""
        if cert_id.algorithm is None:
            return False
        return (
            _digest(cert_id.algorithm, self.name) == cert_id.name_hash
            and _digest(cert_id.algorithm, self.key_bits) == cert_id.key_hash
        )


def _digest(algorithm: str, data: bytes) -> bytes:
    return hashlib.new(algorithm, data, usedforsecurity=False).digest()


def key_hash(public_key_der: bytes) -> bytes:
    """Return the KeyHash of a responder: the SHA-1 of its key (RFC 6960 section 4.2.1)."""
    return _digest("sha1", public_key_bits(public_key_der))


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a certificate; without both fields it is good."""

    revoked_at: datetime | None = None
    reason: str | None = None


def single_response(
    cert_id: CertId, status: Status | None, this_update: datetime, next_update: datetime
) -> bytes:
    """Return a SingleResponse; `status` None is unknown. Times in UTC."""
    return sequence(
        cert_id.der,
        _cert_status(status),
        generalized_time(this_update),
        element(0xA0, generalized_time(next_update)),
    )


def _cert_status(status: Status | None) -> bytes:
    if status is None:
        return b"\x82\x00"
    if status.revoked_at is None:
        return b"\x80\x00"
    code = REASON_CODES.get(status.reason or "")
    reason = element(0xA0, element(0x0A, bytes((code,)))) if code is not None else b""
    return element(0xA1, generalized_time(status.revoked_at), reason)


def response_data(
    responder_key_hash: bytes,
    produced_at: datetime,
    responses: Sequence[bytes],
    nonce: bytes | None = None,
) -> bytes:
    """Return the ResponseData that is to be signed."""
    extensions = b""
    if nonce is not None:
        extension = sequence(_NONCE, octet_string(octet_string(nonce)))
        extensions = element(0xA1, sequence(extension))
    return sequence(
        element(0xA2, octet_string(responder_key_hash)),
        generalized_time(produced_at),
        sequence(*responses),
        extensions,
    )


def successful_response(
    data: bytes, signature_algorithm: bytes, signature: bytes, certificate: bytes
) -> bytes:
    """Return the OCSPResponse with its signature and the responder's certificate."""
    basic = sequence(
        data, signature_algorithm, bit_string(signature), element(0xA0, sequence(certificate))
    )
    answer = sequence(_BASIC, octet_string(basic))
    return sequence(element(0x0A, b"\x00"), element(0xA0, answer))
