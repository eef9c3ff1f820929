"""Which names may stand in certificates below a CA (RFC 5280 section 4.2.1.10).

A type of name that no permitted subtree speaks of is free, as the RFC has it: a CA that may sign
for `example.com` alone may still sign for every IP address, unless it is told which.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias, TypeVar

from cryptography import x509
from cryptography.x509.oid import NameOID

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import NameConstraints

Range: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
SubtreeT = TypeVar("SubtreeT", bound=str | Range)
NameT = TypeVar("NameT")

_HOST: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+[a-z0-9-]{1,63}")
"""A common name that some verifiers take for a DNS name where there is no dNSName."""


def of(certificate: x509.Certificate) -> NameConstraints | None:
    """Return the constraints in a CA's certificate, None where it has none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    permitted, excluded = found.permitted_subtrees or (), found.excluded_subtrees or ()
    return NameConstraints(
        permitted_dns_names=tuple(_values(permitted, x509.DNSName)),
        excluded_dns_names=tuple(_values(excluded, x509.DNSName)),
        permitted_ip_ranges=tuple(_values(permitted, x509.IPAddress)),
        excluded_ip_ranges=tuple(_values(excluded, x509.IPAddress)),
        permitted_email_domains=tuple(_values(permitted, x509.RFC822Name)),
        excluded_email_domains=tuple(_values(excluded, x509.RFC822Name)),
    )


def extension(constraints: NameConstraints | None) -> x509.NameConstraints | None:
    """Return what a CA's certificate says; None where nothing is constrained."""
    if constraints is None:
        return None
    permitted = _subtrees(
        constraints.permitted_dns_names,
        constraints.permitted_ip_ranges,
        constraints.permitted_email_domains,
    )
    excluded = _subtrees(
        constraints.excluded_dns_names,
        constraints.excluded_ip_ranges,
        constraints.excluded_email_domains,
    )
    if not permitted and not excluded:
        return None
    return x509.NameConstraints(permitted or None, excluded or None)


def below(above: NameConstraints | None, own: NameConstraints | None) -> NameConstraints | None:
    """Return the constraints of a CA below another: what was asked for, and what is inherited.

    Raises `AGAINST_POLICY` where it would be permitted what the CA above is not.
    """
    if above is None or own is None:
        return own or above
    return NameConstraints(
        permitted_dns_names=_narrowed(
            above.permitted_dns_names, own.permitted_dns_names, _is_below_dns_name
        ),
        excluded_dns_names=_both(above.excluded_dns_names, own.excluded_dns_names),
        permitted_ip_ranges=_narrowed(
            above.permitted_ip_ranges, own.permitted_ip_ranges, _is_within_range
        ),
        excluded_ip_ranges=_both(above.excluded_ip_ranges, own.excluded_ip_ranges),
        permitted_email_domains=_narrowed(
            above.permitted_email_domains, own.permitted_email_domains, _is_same
        ),
        excluded_email_domains=_both(above.excluded_email_domains, own.excluded_email_domains),
    )


def names_permitted(
    chain: Iterable[NameConstraints | None],
    names: Sequence[x509.GeneralName],
    subject: x509.Name,
) -> None:
    """Raise `AGAINST_POLICY` unless every CA of the chain permits every name.

    Mail addresses in the subject count, and so does a common name that looks like a host where
    there is no dNSName: verifiers take it for one.
    """
    all_names = [*names, *_names_in_subject(names, subject)]
    for constraints in filter(None, chain):
        for name in all_names:
            if not _is_permitted(constraints, name):
                raise CertwireError(
                    ErrorCode.AGAINST_POLICY,
                    f"The CA's name constraints do not permit {name.value}",
                )


# --- One name, one set of constraints -------------------------------------------------------------


def _is_permitted(constraints: NameConstraints, name: x509.GeneralName) -> bool:
    if isinstance(name, x509.DNSName):
        value = name.value.lower()
        return _is_among(value, constraints.permitted_dns_names, _is_below_dns_name) and not any(
            _may_be_below(value, one) for one in constraints.excluded_dns_names
        )
    if isinstance(name, x509.IPAddress):
        address = name.value
        return _is_among(address, constraints.permitted_ip_ranges, _is_address_in) and not any(
            _is_address_in(address, one) for one in constraints.excluded_ip_ranges
        )
    if isinstance(name, x509.RFC822Name):
        domain = name.value.rpartition("@")[2].lower()
        return (
            _is_among(domain, constraints.permitted_email_domains, _is_same)
            and domain not in constraints.excluded_email_domains
        )
    return True  # of other types of name nothing can be said here


def _is_among(
    name: NameT, subtrees: Sequence[SubtreeT], within: Callable[[NameT, SubtreeT], bool]
) -> bool:
    return not subtrees or any(within(name, subtree) for subtree in subtrees)


def _is_same(name: str, subtree: str) -> bool:
    return name == subtree


def _is_below_dns_name(name: str, subtree: str) -> bool:
    return name == subtree or name.endswith(f".{subtree}")


def _may_be_below(name: str, subtree: str) -> bool:
    """Return whether a name, or one that its wildcard stands for, is in the subtree."""
    if _is_below_dns_name(name, subtree):
        return True
    return name.startswith("*.") and subtree.partition(".")[2] == name[2:]


def _is_address_in(address: object, subtree: Range) -> bool:
    return isinstance(address, Address) and address in subtree


def _is_within_range(one: Range, other: Range) -> bool:
    if isinstance(one, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and one.subnet_of(other)
    return isinstance(other, ipaddress.IPv6Network) and one.subnet_of(other)


# --- Parts ----------------------------------------------------------------------------------------


def _narrowed(
    above: tuple[SubtreeT, ...],
    own: tuple[SubtreeT, ...],
    within: Callable[[SubtreeT, SubtreeT], bool],
) -> tuple[SubtreeT, ...]:
    for subtree in own if above else ():
        if not any(within(subtree, one) for one in above):
            raise CertwireError(ErrorCode.AGAINST_POLICY, f"The CA above does not permit {subtree}")
    return own or above


def _both(above: tuple[SubtreeT, ...], own: tuple[SubtreeT, ...]) -> tuple[SubtreeT, ...]:
    return tuple(dict.fromkeys([*above, *own]))


def _subtrees(
    dns_names: Iterable[str], ip_ranges: Iterable[Range], email_domains: Iterable[str]
) -> list[x509.GeneralName]:
    return [
        *map(x509.DNSName, dns_names),
        *map(x509.IPAddress, ip_ranges),
        *map(x509.RFC822Name, email_domains),
    ]


def _values(subtrees: Iterable[x509.GeneralName], kind: type[x509.GeneralName]) -> list[object]:
    return [subtree.value for subtree in subtrees if isinstance(subtree, kind)]


def _names_in_subject(
    names: Sequence[x509.GeneralName], subject: x509.Name
) -> list[x509.GeneralName]:
    addresses = subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    found: list[x509.GeneralName] = [_mail_address(str(one.value)) for one in addresses]
    if any(isinstance(name, x509.DNSName) for name in names):
        return found
    for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        text = str(attribute.value).lower()
        if _HOST.fullmatch(text.removeprefix("*.")) and not _is_address(text):
            found.append(x509.DNSName(text))
    return found


def _mail_address(text: str) -> x509.RFC822Name:
    try:
        return x509.RFC822Name(text)
    except ValueError:
        raise CertwireError(
            ErrorCode.AGAINST_POLICY, "The subject's emailAddress is no mail address"
        ) from None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
