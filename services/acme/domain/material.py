"""A certificate with its chain and key, as somebody hands it to us: an uploader, or a CA.

1. The texts are read: the certificates, and a key that a TLS server may have.
2. The leaf is the certificate that has the key.
3. Whom it is for, until when and for what: as clients will look at it.
4. The rest is put in order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, PublicKeyAlgorithmOID

from contracts.errors import CertwireError, ErrorCode
from services.acme.domain.chains import SKEW, Certificate, Chain, chain_of, read_certificates
from services.acme.domain.pem import UnfitError
from services.acme.domain.private_keys import PrivateKey, pkcs8_pem, read_private_key
from shared.x509 import bundle, fingerprint, public_key_der, serial_hex

EXPIRING_SOON: Final = timedelta(days=30)
SERIAL_BITS: Final = 160
"""RFC 5280 section 4.1.2.2: 20 octets at most."""


@dataclass(frozen=True, slots=True)
class Material:
    """A certificate that can be served, with the facts that are kept of it.

    `chain_pem` is the leaf and what is served with it, `private_key_pem` PKCS #8 in the clear.
    `names` are DNS names in lower case, then IP addresses, at least one. An issuer has at least one
    of the two names; `subject` and `issuer` are as RFC 4514 writes them. `warnings` are for people.
    """

    leaf: x509.Certificate
    chain_pem: str
    key: PrivateKey = field(repr=False)
    private_key_pem: str = field(repr=False)
    names: tuple[str, ...]
    issuer_common_name: str | None
    issuer_organization: str | None
    subject: str
    issuer: str
    serial_hex: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    warnings: tuple[str, ...]


def read(certificate_pem: str, private_key_pem: str, domain: str | None, now: datetime) -> Material:
    """Return what can be served for a domain; None asks for no name.

    Raises `INVALID_CERTIFICATE`, with the reason in plain words.
    """
    try:
        certificates = read_certificates(certificate_pem)  # 1
        key = read_private_key(private_key_pem)
        leaf = _leaf(certificates, key, domain, now)  # 2
        _check_times(leaf, now, now)  # 3
        _check_usage(leaf, key)
        names = _checked_names(leaf, [domain] if domain is not None else [])
        chain = chain_of(leaf, certificates, now)  # 4
        return _material(chain, key, names, _warnings(chain, key, now))
    except UnfitError as error:
        raise CertwireError(ErrorCode.INVALID_CERTIFICATE, str(error)) from None


def accept_issued(chain_pem: str, key: PrivateKey, names: Sequence[str], now: datetime) -> Material:
    """Return what a CA issued for a key and names, the leaf first (RFC 8555 section 7.4.2).

    Raises UnfitError, a ValueError, with the reason in plain words. A clock that is ahead of ours
    is the CA's own affair.
    """
    certificates = read_certificates(chain_pem)  # 1
    leaf = certificates[0]
    if leaf.public_key_der != public_key_der(key.public_key()):  # 2
        raise UnfitError("Certificate and private key do not match")
    _check_times(leaf, now, now + SKEW)  # 3
    _check_usage(leaf, key)
    found = _checked_names(leaf, names)
    return _material(chain_of(leaf, certificates, now), key, found, ())  # 4


def covers(name: str, domain: str) -> bool:
    """Return whether a name of a certificate covers a domain (RFC 9525 section 6.3).

    A wildcard stands for one label, the leftmost, above two labels or more: nobody accepts `*.com`.
    A domain that is a wildcard itself needs the same name.
    """
    if name == domain:
        return True
    label, _, rest = domain.partition(".")
    return label != "*" and "." in rest and name == f"*.{rest}"


def _leaf(
    certificates: Sequence[Certificate], key: PrivateKey, domain: str | None, now: datetime
) -> Certificate:
    """Return the certificate that has the key; of several, the one that would be served."""
    public_key = public_key_der(key.public_key())
    found = [one for one in certificates if one.public_key_der == public_key]
    if not found:
        raise UnfitError("Certificate and private key do not match")

    def merits(one: Certificate) -> tuple[bool, bool, datetime]:
        is_for = domain is None or any(covers(name, domain) for name in _names(one))
        return is_for, one.is_valid_at(now), one.not_after

    return max(found, key=merits)


def _check_times(leaf: Certificate, now: datetime, latest_begin: datetime) -> None:
    if leaf.not_after <= now:
        raise UnfitError("Certificate has expired")
    if leaf.not_before > latest_begin:
        raise UnfitError("Certificate is not valid yet")


def _check_usage(leaf: Certificate, key: PrivateKey) -> None:
    """Refuse what is no TLS server's certificate, and what has no place in a record of ours."""
    if leaf.is_ca and not leaf.is_self_signed:  # a self-signed one is what `openssl req` makes
        raise UnfitError("Certificate is a CA's, not a server's")
    usages = leaf.extension(x509.ExtendedKeyUsage)
    if usages is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        raise UnfitError("Certificate is not for TLS servers")
    kind = leaf.certificate.public_key_algorithm_oid
    if isinstance(key, rsa.RSAPrivateKey) and kind != PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5:
        raise UnfitError("Certificate's key is for RSASSA-PSS alone, which clients refuse")
    if not 0 < leaf.certificate.serial_number < 1 << SERIAL_BITS:
        raise UnfitError("Certificate's serial number is not positive, or longer than 20 octets")
    if not leaf.certificate.issuer:
        raise UnfitError("Certificate names no issuer")


def _checked_names(leaf: Certificate, domains: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a leaf, all of which are printable, and which cover the domains."""
    names = _names(leaf)
    if not all(name and name.isascii() and name.isprintable() for name in names):
        raise UnfitError("Certificate has a subject alternative name that is no name")
    for domain in domains:
        if not any(covers(name, domain) for name in names):
            raise UnfitError(f"Certificate is not valid for domain {domain}")
    if not names:
        raise UnfitError("Certificate has no subject alternative name")
    return names


def _names(leaf: Certificate) -> tuple[str, ...]:
    """Return the names that clients look at: the common name is none (RFC 9525 section 2)."""
    names = leaf.extension(x509.SubjectAlternativeName)
    if names is None:
        return ()
    hosts = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return tuple(dict.fromkeys([*hosts, *addresses]))


def _material(
    chain: Chain, key: PrivateKey, names: tuple[str, ...], warnings: tuple[str, ...]
) -> Material:
    leaf = chain.leaf.certificate
    served = [one.certificate.public_bytes(Encoding.PEM).decode() for one in chain.served]
    issuer = _printable(leaf.issuer.rfc4514_string())
    organization = _attribute(leaf.issuer, NameOID.ORGANIZATION_NAME)
    common_name = _attribute(leaf.issuer, NameOID.COMMON_NAME)
    return Material(
        leaf=leaf,
        chain_pem=bundle(served),
        key=key,
        private_key_pem=pkcs8_pem(key),
        names=names,
        issuer_common_name=common_name if common_name or organization else issuer,
        issuer_organization=organization,
        subject=_printable(leaf.subject.rfc4514_string()),
        issuer=issuer,
        serial_hex=serial_hex(leaf.serial_number),
        fingerprint=fingerprint(chain.leaf.der),
        not_before=chain.leaf.not_before,
        not_after=chain.leaf.not_after,
        warnings=warnings,
    )


def _warnings(chain: Chain, key: PrivateKey, now: datetime) -> tuple[str, ...]:
    leaf, left = chain.leaf, chain.leaf.not_after - now
    usage = leaf.extension(x509.KeyUsage)
    issuer = _printable(leaf.certificate.issuer.rfc4514_string())
    said = {
        f"Certificate expires within {_days(left)}": left <= EXPIRING_SOON,
        f"Certificate chain is incomplete: the certificate of {issuer} is missing": (
            chain.lacks_issuer
        ),
        "Certificate is self-signed: only clients that know it trust it": leaf.is_self_signed,
        "Certificate's key usage is not for signatures, which TLS 1.3 needs": (
            usage is not None and not usage.digital_signature
        ),
        "Browsers do not know Ed25519 keys": isinstance(key, ed25519.Ed25519PrivateKey),
    }
    return tuple(text for text, applies in said.items() if applies)


def _days(left: timedelta) -> str:
    days = math.ceil(left / timedelta(days=1))
    return "a day" if days == 1 else f"{days} days"


def _attribute(name: x509.Name, kind: x509.ObjectIdentifier) -> str | None:
    """Return the first value of an attribute; what is no text, or nothing, is none."""
    values = [attribute.value for attribute in name.get_attributes_for_oid(kind)]
    texts = [_printable(value) for value in values if isinstance(value, str)]
    return next(filter(None, texts), None)


def _printable(text: str) -> str:
    """Return a text that can be stored and shown: others choose what stands in names."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
