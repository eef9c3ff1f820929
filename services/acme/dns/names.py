"""Names and values of the records, and which zone they belong into."""

import re
from collections.abc import Iterator
from typing import Final

NAME_CHARACTERS: Final = 253
"""RFC 1035 section 2.3.4: 255 octets, of which the text has no first length and no root."""
FEWEST_LABELS: Final = 2
"""No provider hosts a top-level domain for its customers."""
MOST_CANDIDATES: Final = 12
"""Zones that may be asked for, one by one; Let's Encrypt takes names of ten labels at the most."""

LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
NAME: Final = re.compile(rf"(?:{LABEL}\.)+{LABEL}")
"""A name in lower case with the underscores that challenges begin with (RFC 8552)."""
VALUE: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
"""base64url, as RFC 8555 section 8.4 has it, in one character-string (RFC 1035 section 3.3)."""


def record_name(name: str) -> str:
    """Return a record's name in lower case, without the final dot. Raises ValueError."""
    lowered = name.removesuffix(".").lower()
    if len(lowered) > NAME_CHARACTERS or NAME.fullmatch(lowered) is None:
        raise ValueError("not a DNS name")
    return lowered


def record_value(value: str) -> str:
    """Return a value that needs no escape anywhere. Raises ValueError."""
    if VALUE.fullmatch(value) is None:
        raise ValueError("not a value in base64url")
    return value


def zone_candidates(name: str) -> Iterator[str]:
    """Yield the names that a record's zone may have, the longest first; itself is one of them."""
    labels = name.split(".")
    first = max(0, len(labels) - (FEWEST_LABELS - 1) - MOST_CANDIDATES)
    for index in range(first, len(labels) - (FEWEST_LABELS - 1)):
        yield ".".join(labels[index:])


def relative(name: str, zone: str) -> str:
    """Return a name as it is within its zone; `@` is the zone's own."""
    return "@" if name == zone else name.removesuffix(f".{zone}")
