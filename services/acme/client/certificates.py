"""The certificates that a CA gives: chains in PEM, which of them is preferred, and their ids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from services.acme.client.jose import base64url
from services.acme.client.problems import CaMisbehaves
from shared.x509 import bundle

CHAIN_LIMIT: Final = 10
"""Of certificates; chains of public CAs have two to four."""

_BLOCK: Final = re.compile(
    rb"\s*-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----\s*"
)


@dataclass(frozen=True, slots=True)
class Chain:
    """A leaf and the certificates above it, as a CA gave them; the signatures are unchecked."""

    certificates: tuple[x509.Certificate, ...]

    @classmethod
    def parse(cls, body: bytes) -> "Chain":
        """Read a chain (RFC 8555 section 9.1): certificates in PEM alone. Raises CaMisbehaves."""
        blocks: list[bytes] = []
        end = 0
        while (found := _BLOCK.match(body, end)) and len(blocks) <= CHAIN_LIMIT:
            blocks.append(found[0])
            end = found.end()
        if end != len(body) or not 0 < len(blocks) <= CHAIN_LIMIT:
            raise CaMisbehaves(f"the chain is not one to {CHAIN_LIMIT} certificates in PEM")
        try:
            chain = cls(tuple(x509.load_pem_x509_certificate(block.strip()) for block in blocks))
            chain.issuer_names()
            first_is_ca = _is_ca(chain.certificates[0])
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            raise CaMisbehaves("the chain holds what is not a certificate") from error
        if first_is_ca:
            raise CaMisbehaves("the chain does not begin with the certificate")
        return chain

    @property
    def pem(self) -> str:
        """Return it as text, leaf first."""
        return bundle([each.public_bytes(Encoding.PEM).decode() for each in self.certificates])

    def issuer_names(self) -> list[str]:
        """Return the common names of the issuers, the leaf's first."""
        names = (
            each.issuer.get_attributes_for_oid(NameOID.COMMON_NAME) for each in self.certificates
        )
        return [str(found[0].value) if found else "" for found in names]

    def is_for_the_leaf_of(self, other: "Chain") -> bool:
        """Return whether both begin with the same certificate."""
        return self.certificates[0] == other.certificates[0]


def preferred(chains: Sequence[Chain], issuer: str) -> Chain:
    """Return the chain with a common name among its issuers, above all as the topmost one.

    The first where there is none.
    """
    topmost = (chain for chain in chains if chain.issuer_names()[-1] == issuer)
    anywhere = (chain for chain in chains if issuer in chain.issuer_names())
    return next(topmost, None) or next(anywhere, None) or chains[0]


def certificate_id(certificate: x509.Certificate) -> str | None:
    """Return the name of a certificate in ARI (RFC 9773 section 4.1).

    None where it has no key identifier of its issuer.
    """
    try:
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        return None
    if not authority.value.key_identifier:
        return None
    serial = certificate.serial_number
    octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big")  # as DER has an INTEGER
    return f"{base64url(authority.value.key_identifier)}.{base64url(octets)}"


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca
