"""Distinguished names as users write them (RFC 4514), within the bounds of RFC 5280 appendix A."""

import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from contracts.errors import CertwireError, ErrorCode

_PRINTABLE: Final = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]+")
"""PrintableString (X.680 section 41.4)."""
_COUNTRY: Final = re.compile(r"[A-Za-z]{2}")
_ASCII: Final = re.compile(r"[\x20-\x7e]+")
_ADDRESS: Final = re.compile(r"[\w!#$%&'*+/=?^`{|}~.-]+@[A-Za-z0-9.-]+", re.ASCII)
_ANY: Final = re.compile(r".+")


@dataclass(frozen=True, slots=True)
class _Attribute:
    """A kind of attribute: its largest size in characters, and what it may hold."""

    most: int
    holds: re.Pattern[str] = _ANY


_ATTRIBUTES: Final = {  # the upper bounds (ub-…) of RFC 5280 appendix A.1; of DC, RFC 1034's
    NameOID.COMMON_NAME: _Attribute(64),
    NameOID.ORGANIZATION_NAME: _Attribute(64),
    NameOID.ORGANIZATIONAL_UNIT_NAME: _Attribute(64),
    NameOID.LOCALITY_NAME: _Attribute(128),
    NameOID.STATE_OR_PROVINCE_NAME: _Attribute(128),
    NameOID.STREET_ADDRESS: _Attribute(128),
    NameOID.COUNTRY_NAME: _Attribute(2, _COUNTRY),
    NameOID.DOMAIN_COMPONENT: _Attribute(63, _ASCII),
    NameOID.USER_ID: _Attribute(256),
    NameOID.EMAIL_ADDRESS: _Attribute(255, _ADDRESS),
    NameOID.SERIAL_NUMBER: _Attribute(64, _PRINTABLE),
    NameOID.TITLE: _Attribute(64),
    NameOID.GIVEN_NAME: _Attribute(64),
    NameOID.SURNAME: _Attribute(64),
}
_NAMES: Final = {  # beside those of RFC 4514 section 3
    "S": NameOID.STATE_OR_PROVINCE_NAME,
    "E": NameOID.EMAIL_ADDRESS,
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    "title": NameOID.TITLE,
    "T": NameOID.TITLE,
    "GN": NameOID.GIVEN_NAME,
    "SN": NameOID.SURNAME,
}
_PRINTED: Final = {
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.TITLE: "title",
    NameOID.GIVEN_NAME: "GN",
    NameOID.SURNAME: "SN",
}
_AROUND: Final = re.compile(r"(?<!\\) *([,+]) *")
"""Spaces around separators: RFC 4514 has none, RFC 2253 and people do."""


def parse(text: str) -> x509.Name:
    """Return the name that a text stands for, the last part of it first (RFC 4514 section 2.1).

    Raises `INVALID_REQUEST` for what does not parse, is empty, or is more than the attributes hold.
    """
    try:
        name = x509.Name.from_rfc4514_string(_AROUND.sub(r"\1", text.strip(" ")), dict(_NAMES))
    except (ValueError, TypeError, OverflowError) as error:  # UnicodeError is a ValueError
        raise _invalid(str(error) or "it is not as RFC 4514 has it") from None
    check(name)
    return name


def check(name: x509.Name) -> None:
    """Raise `INVALID_REQUEST` for a name that is empty or holds what its attributes may not."""
    attributes = list(name)
    if not attributes:
        raise _invalid("it is empty")
    for attribute in attributes:
        _check(attribute)
    if len(name.get_attributes_for_oid(NameOID.COMMON_NAME)) > 1:
        raise _invalid("it has two common names")


def common_name(name: x509.Name) -> str:
    """Return the common name of a name, or nothing where it has none."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def printed(name: x509.Name) -> str:
    """Return a name as text that `parse` reads."""
    return name.rfc4514_string(_PRINTED)


def same(one: x509.Name, other: x509.Name) -> bool:
    """Return whether two names are equal: case and spaces do not count (RFC 5280 section 7.1)."""
    return _folded(one) == _folded(other)


def _folded(name: x509.Name) -> list[frozenset[tuple[str, str]]]:
    return [
        frozenset(
            (attribute.oid.dotted_string, " ".join(str(attribute.value).casefold().split()))
            for attribute in relative
        )
        for relative in name.rdns
    ]


def _check(attribute: x509.NameAttribute[str | bytes]) -> None:
    bounds = _ATTRIBUTES.get(attribute.oid)
    if bounds is None:
        raise _invalid(f"{attribute.oid.dotted_string} is no attribute that is used here")
    name, value = attribute.rfc4514_attribute_name, attribute.value
    if not isinstance(value, str) or not value.isprintable():
        raise _invalid(f"{name} holds characters that cannot be printed")
    if not 1 <= len(value) <= bounds.most:
        raise _invalid(f"{name} has 1 to {bounds.most} characters")
    if not bounds.holds.fullmatch(value) or value != value.strip():
        raise _invalid(f"{name} holds characters that it may not have")


def _invalid(reason: str) -> CertwireError:
    return CertwireError(ErrorCode.INVALID_REQUEST, f"the distinguished name: {reason}")
