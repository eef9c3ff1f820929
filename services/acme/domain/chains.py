"""Certificates that somebody hands us, put in order: the leaf, and what vouches for it.

Each certificate that is served signs the one before it (RFC 5246 section 7.4.2). Of several ways
up, as there are where CAs are cross-signed, one is served; the root is not: clients have it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts.errors import CertwireError
from services.acme.domain.pem import UNREADABLE, UnfitError, blocks
from shared.x509 import check_public_key

MOST_CERTIFICATES: Final = 10
"""No public CA's chain needs more than four; OpenSSL stops at 100, GnuTLS at 16."""
SKEW: Final = timedelta(hours=1)
"""By how much a CA's clock may be ahead of ours."""
NOT_PEM: Final = "Certificate is not valid PEM"
INVALID: Final = "Certificate chain is invalid"

_LABELS: Final = {"CERTIFICATE", "X509 CERTIFICATE"}
"""RFC 7468 section 5.1: old programs write the second."""
_WEAK_HASHES: Final = (hashes.MD5, hashes.SHA1)
"""What clients refuse in a signature (CA/Browser Forum BR 7.1.3.2)."""

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """A certificate with what puts it in order.

    `public_key_der` is the SubjectPublicKeyInfo, None where the key is of no known kind; `subject`
    and `issuer` are names in DER.
    """

    certificate: x509.Certificate
    der: bytes
    public_key_der: bytes | None
    subject: bytes
    issuer: bytes
    not_before: datetime
    not_after: datetime
    extensions: x509.Extensions

    @property
    def is_ca(self) -> bool:
        """Return whether it says that it is a CA's; a root of old, version 1, says nothing."""
        constraints = self.extension(x509.BasicConstraints)
        if constraints is None:
            return self.certificate.version is x509.Version.v1 and self.is_self_signed
        return constraints.ca

    @property
    def is_self_issued(self) -> bool:
        """Return whether the issuer has the same name; with another key it is no root."""
        return self.subject == self.issuer

    @property
    def is_self_signed(self) -> bool:
        """Return whether it vouches for itself, as roots do.

        One whose signature nobody verifies any more, with SHA-1, is believed.
        """
        return self.is_self_issued and has_signed(self, self, unless_verifiable=True)

    def may_sign_below(self, cas_below: int) -> bool:
        """Return whether it may sign certificates (RFC 5280 sections 4.2.1.3 and 4.2.1.9)."""
        usage = self.extension(x509.KeyUsage)
        constraints = self.extension(x509.BasicConstraints)
        most = constraints.path_length if constraints is not None else None
        return (
            self.is_ca
            and (usage is None or usage.key_cert_sign)
            and (most is None or cas_below <= most)
        )

    def is_named_by(self, below: "Certificate") -> bool:
        """Return whether the key identifiers speak for it as the issuer, or say nothing."""
        own = self.extension(x509.SubjectKeyIdentifier)
        named = below.extension(x509.AuthorityKeyIdentifier)
        return own is None or named is None or named.key_identifier in {None, own.digest}

    def is_valid_at(self, now: datetime) -> bool:
        """Return whether it is used at this time."""
        return self.not_before <= now + SKEW and now < self.not_after

    def extension(self, kind: type[ExtensionT]) -> ExtensionT | None:
        """Return an extension's value."""
        try:
            return self.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None


@dataclass(frozen=True, slots=True)
class Chain:
    """What is served, the leaf first. `lacks_issuer`: nothing here has signed the leaf."""

    served: tuple[Certificate, ...]
    lacks_issuer: bool

    @property
    def leaf(self) -> Certificate:
        """Return the certificate that the chain is for."""
        return self.served[0]


def read_certificates(text: str) -> list[Certificate]:
    """Return the certificates in a text, each once. Raises UnfitError."""
    try:
        encoded = [block for block in blocks(text) if block.label in _LABELS]
        ders = list(dict.fromkeys(block.der() for block in encoded))
    except ValueError as error:
        raise UnfitError(NOT_PEM) from error
    if not ders:
        raise UnfitError(NOT_PEM)
    if len(encoded) > MOST_CERTIFICATES:
        raise UnfitError(f"There are more than {MOST_CERTIFICATES} certificates")
    return [_parsed(der) for der in ders]


def _parsed(der: bytes) -> Certificate:
    """Return a certificate; its parts are read late, so all that are needed are asked for here."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        _ = certificate.signature_hash_algorithm
        return Certificate(
            certificate,
            der,
            _public_key_der(certificate),
            certificate.subject.public_bytes(),
            certificate.issuer.public_bytes(),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            certificate.extensions,
        )
    except UNREADABLE as error:
        raise UnfitError("Certificate cannot be read") from error


def _public_key_der(certificate: x509.Certificate) -> bytes | None:
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm:
        return None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def has_signed(above: Certificate, below: Certificate, *, unless_verifiable: bool = False) -> bool:
    """Return whether a certificate's key made another one's signature.

    `unless_verifiable` is the answer for signatures of a kind that is not verified any more.
    """
    if above.subject != below.issuer:
        return False
    try:
        below.certificate.verify_directly_issued_by(above.certificate)
    except InvalidSignature:
        return False
    except UNREADABLE:
        return unless_verifiable
    return True


def chain_of(leaf: Certificate, certificates: Sequence[Certificate], now: datetime) -> Chain:
    """Return what is served for a leaf. Raises UnfitError.

    1. No signature is of a kind that clients refuse, but for roots' own, which nobody looks at.
    2. Everything vouches for the leaf, directly or not.
    3. From the leaf up, each time one of those that signed the last one is taken, until there is
       none, or only the root.
    4. Each of them may sign what it signed, is used at this time, and has a strong key.
    """
    for one in certificates:  # 1
        _check_signature_kind(one, is_root=one is not leaf and one.is_self_issued)
    signers = {
        below: [above for above in certificates if above is not below and has_signed(above, below)]
        for below in certificates
    }
    if len(_above(leaf, signers)) < len(certificates):  # 2
        raise UnfitError(INVALID)
    served = [leaf]
    while candidates := [one for one in signers[served[-1]] if one not in served]:  # 3
        chosen = _chosen(candidates, served[-1], signers, now)
        if not chosen.may_sign_below(sum(not ca.is_self_issued for ca in served[1:])):  # 4
            raise UnfitError(INVALID)
        if chosen.is_self_signed:
            break
        _check_use(chosen, now)
        served.append(chosen)
    return Chain(tuple(served), lacks_issuer=not (signers[leaf] or leaf.is_self_signed))


def _check_signature_kind(one: Certificate, *, is_root: bool) -> None:
    kind = one.certificate.signature_hash_algorithm
    if isinstance(kind, _WEAK_HASHES) and not is_root:
        raise UnfitError(f"Certificate is signed with {kind.name.upper()}, which clients refuse")


def _above(
    leaf: Certificate, signers: Mapping[Certificate, Sequence[Certificate]]
) -> set[Certificate]:
    """Return the leaf, and all that vouch for it."""
    found, last = {leaf}, [leaf]
    while last:
        last = [above for below in last for above in signers[below] if above not in found]
        found.update(last)
    return found


def _chosen(
    candidates: Sequence[Certificate],
    below: Certificate,
    signers: Mapping[Certificate, Sequence[Certificate]],
    now: datetime,
) -> Certificate:
    """Return the one that is served, of several with the same name and key.

    One that is used now, that is meant by its identifier, that a root of old vouches for, too (more
    clients know that one), and whose own issuer is here; else the one that ends last.
    """

    def merits(one: Certificate) -> tuple[bool, bool, bool, bool, datetime, bytes]:
        return (
            one.is_valid_at(now),
            one.is_named_by(below),
            not one.is_self_signed,
            bool(signers[one]),
            one.not_after,
            one.der,
        )

    return max(candidates, key=merits)


def _check_use(ca: Certificate, now: datetime) -> None:
    """Refuse a CA's certificate that clients would refuse."""
    if not ca.is_valid_at(now):
        ended = ca.not_after <= now
        raise UnfitError(f"Certificate chain {'has expired' if ended else 'is not valid yet'}")
    key = ca.certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise UnfitError("Certificate chain holds a key that clients do not know")
    try:
        check_public_key(key)
    except CertwireError as error:
        raise UnfitError(f"Certificate chain holds a weak key: {error.detail}") from error
