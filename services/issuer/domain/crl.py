"""Certificate revocation lists in DER, assembled from parts (RFC 5280 section 5).

A list is `head | entries | tail`. Entries are encoded once, when a certificate is revoked; from one
list to the next only head and tail change, so one more entry costs the same in a list of any
length.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from contracts.certificates import RevocationReason
from services.issuer.domain.encoding import (
    bit_string,
    element,
    extension,
    header,
    integer,
    object_identifier,
    octet_string,
    sequence,
    signature_algorithm,
    time,
)
from shared.x509 import PublicKey

REASON_CODES: Final[Mapping[str, int]] = {
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.CA_COMPROMISE: 2,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
    RevocationReason.PRIVILEGE_WITHDRAWN: 9,
    RevocationReason.AA_COMPROMISE: 10,
}
"""CRLReason of RFC 5280 section 5.3.1; unspecified is said by saying nothing."""

_VERSION_2: Final = integer(1)
_REASONS: Final = {
    reason: sequence(
        sequence(
            object_identifier("2.5.29.21"),
            octet_string(element(0x0A, bytes((REASON_CODES[reason],)))),
        )
    )
    for reason in REASON_CODES
}


def entry(serial_hex: str, revoked_at: datetime, reason: str) -> bytes:
    """Return an element of `revokedCertificates`; at most 56 octets for a serial of 20."""
    serial = integer(int(serial_hex, 16))
    return sequence(serial, time(revoked_at), _REASONS.get(reason, b""))


def entries_of(segment: bytes) -> Iterator[bytes]:
    """Yield the entries that were put together."""
    start = 0
    while start < len(segment):
        end = start + 2 + segment[start + 1]  # never the long form
        yield segment[start:end]
        start = end


@dataclass(frozen=True, slots=True)
class UnsignedCrl:
    """A TBSCertList around its entries, which are not in it: `head`, entries, `tail`."""

    head: bytes
    tail: bytes
    entries_size: int
    signature_algorithm: bytes

    def signed(self, signature: bytes) -> tuple[bytes, bytes]:
        """Return what goes before and after the entries in the CertificateList."""
        tail = self.tail + self.signature_algorithm + bit_string(signature)
        size = len(self.head) + self.entries_size + len(tail)
        return header(0x30, size) + self.head, tail


@dataclass(frozen=True, slots=True)
class CrlTemplate:
    """What all lists of one CA share, in DER."""

    issuer: bytes
    signature_algorithm: bytes
    authority_key_identifier: bytes

    @classmethod
    def prepare(cls, issuer: x509.Name, key: PublicKey, key_identifier: bytes) -> "CrlTemplate":
        """Encode the parts; the identifier is that of the CA's own key."""
        identifier = x509.AuthorityKeyIdentifier(key_identifier, None, None)
        return cls(
            issuer.public_bytes(),
            signature_algorithm(key),
            extension(identifier, critical=False),
        )

    def unsigned(
        self, number: int, this_update: datetime, next_update: datetime, entries_size: int
    ) -> UnsignedCrl:
        """Return the list that is to be signed, for entries of so many octets; times in UTC."""
        number_extension = extension(x509.CRLNumber(number), critical=False)
        tail = element(0xA0, sequence(self.authority_key_identifier, number_extension))
        fields = b"".join(
            (
                _VERSION_2,
                self.signature_algorithm,
                self.issuer,
                time(this_update),
                time(next_update),
                header(0x30, entries_size) if entries_size else b"",
            )
        )
        size = len(fields) + entries_size + len(tail)
        head = header(0x30, size) + fields
        return UnsignedCrl(head, tail, entries_size, self.signature_algorithm)
