"""subjectAltName of users' certificates (RFC 5280 section 4.2.1.6).

What is no name raises ValueError, in words for people; names that a kind of certificate may not
have are refused with `AGAINST_POLICY`.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from cryptography import x509

from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.pki import MOST_NAMES
from services.issuer.domain.identities import DNS_NAME, Name

LOCAL_PART_OCTETS: Final = 64
"""RFC 5321 section 4.5.3.1.1."""
ADDRESS_OCTETS: Final = 254
"""RFC 5321 section 4.5.3.1.3, without the angle brackets."""
_DOT_STRING: Final = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*", re.ASCII)
"""RFC 5321 section 4.1.2; quoted local parts are nobody's any more."""

_OTHER_NAMES: Final = "the subjectAltName holds other names than DNS, IP and email"

NameT = TypeVar("NameT", bound=Name)


@dataclass(frozen=True, slots=True)
class AlternativeNames:
    """Names by their type; None where nothing is said of the type."""

    dns: tuple[x509.DNSName, ...] | None = None
    ip: tuple[x509.IPAddress, ...] | None = None
    email: tuple[x509.RFC822Name, ...] | None = None

    @classmethod
    def parse(
        cls,
        dns: Iterable[str] | None,
        ip: Iterable[str] | None,
        email: Iterable[str] | None,
    ) -> "AlternativeNames":
        """Return the names that texts stand for, each once."""
        return cls(_each(dns_name, dns), _each(ip_address, ip), _each(email_address, email))

    @classmethod
    def copied(cls, names: x509.SubjectAlternativeName) -> "AlternativeNames":
        """Return the names of a CSR, checked; a name of another type is refused, not left out."""
        for name in names:
            if not isinstance(name, x509.DNSName | x509.IPAddress | x509.RFC822Name):
                raise ValueError(_OTHER_NAMES)  # noqa: TRY004 - a wrong CSR, no wrong call
        return cls.parse(
            names.get_values_for_type(x509.DNSName),
            map(str, names.get_values_for_type(x509.IPAddress)),
            names.get_values_for_type(x509.RFC822Name),
        )

    def or_else(self, others: "AlternativeNames") -> "AlternativeNames":
        """Return these names, with the others' where nothing is said of a type here."""
        return AlternativeNames(
            others.dns if self.dns is None else self.dns,
            others.ip if self.ip is None else self.ip,
            others.email if self.email is None else self.email,
        )

    def all(self) -> tuple[Name, ...]:
        """Return every name."""
        return (*(self.dns or ()), *(self.ip or ()), *(self.email or ()))


def names_of(kind: CertificateKind, names: AlternativeNames, common_name: str) -> tuple[Name, ...]:
    """Return the names that a certificate of a kind gets. Raises `AGAINST_POLICY`.

    1. Servers have no email names, clients no DNS names and IP addresses, CAs none at all.
    2. Without a DNS name the common name of a server is one, or else an IP address.
    3. Without an email name the common name of a client is one, if it can be.
    4. Servers have a name, for nobody looks at their common name any more (RFC 9525 section 2).
    """
    for one in names.all():  # 1
        if not isinstance(one, _ALLOWED[kind]):
            raise _refused(f"A {kind} certificate has no {_IN_WORDS[type(one)]} names")
    if _IS_SERVER[kind] and not names.dns:  # 2
        names = _with_host(names, common_name)
    if kind is CertificateKind.CLIENT and not names.email:  # 3
        address = _attempt(email_address, common_name)
        names = replace(names, email=(address,)) if address else names
    found = names.all()
    if _IS_SERVER[kind] and not found:  # 4
        raise _refused("The common name is no DNS name: subject alternative names are needed")
    if len(found) > MOST_NAMES:
        raise _refused(f"A certificate has at most {MOST_NAMES} subject alternative names")
    return found


_ALLOWED: Final[dict[CertificateKind, tuple[type[Name], ...]]] = {
    CertificateKind.SERVER: (x509.DNSName, x509.IPAddress),
    CertificateKind.CLIENT: (x509.RFC822Name,),
    CertificateKind.DUAL_PURPOSE: (x509.DNSName, x509.IPAddress, x509.RFC822Name),
    CertificateKind.CA: (),
}
_IS_SERVER: Final = {kind: x509.DNSName in allowed for kind, allowed in _ALLOWED.items()}
_IN_WORDS: Final[dict[type, str]] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.RFC822Name: "email",
}


def dns_name(text: str) -> x509.DNSName:
    """Return a DNS name in lower case; a wildcard is its whole first label (RFC 9525 6.3)."""
    name = text.lower()
    if not name.isascii():
        raise ValueError(f"{text!r} is not in ASCII: internationalised names begin with xn--")
    if not DNS_NAME.fullmatch(name):
        raise ValueError(f"{text!r} is no DNS name")
    if name.rpartition(".")[2].isdigit():  # RFC 1123 section 2.1
        raise ValueError(f"{text!r} is an IP address, no DNS name")
    return x509.DNSName(name)


def ip_address(text: str) -> x509.IPAddress:
    """Return an IP address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{text!r} means something on one machine alone")
    return x509.IPAddress(address)


def email_address(text: str) -> x509.RFC822Name:
    """Return a mail address, its domain in lower case (RFC 5280 section 7.5)."""
    local, at, domain = text.rpartition("@")
    if not text.isascii():
        raise ValueError(f"{text!r} is not in ASCII")
    if not (
        at
        and len(text) <= ADDRESS_OCTETS
        and len(local) <= LOCAL_PART_OCTETS
        and _DOT_STRING.fullmatch(local)
        and DNS_NAME.fullmatch(domain.lower())
        and not domain.startswith("*")
    ):
        raise ValueError(f"{text!r} is no mail address")
    return x509.RFC822Name(f"{local}@{domain.lower()}")


def _with_host(names: AlternativeNames, common_name: str) -> AlternativeNames:
    host = _attempt(dns_name, common_name)
    if host is not None:
        return replace(names, dns=(host,))
    address = _attempt(ip_address, common_name)
    if address is not None and not names.ip:
        return replace(names, ip=(address,))
    return names


def _each(parse: Callable[[str], NameT], texts: Iterable[str] | None) -> tuple[NameT, ...] | None:
    return tuple(dict.fromkeys(map(parse, texts))) if texts is not None else None


def _attempt(parse: Callable[[str], NameT], text: str) -> NameT | None:
    try:
        return parse(text)
    except ValueError:
        return None


def _refused(reason: str) -> CertwireError:
    return CertwireError(ErrorCode.AGAINST_POLICY, reason)
