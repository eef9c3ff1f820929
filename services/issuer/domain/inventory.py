"""What is looked for in an inventory of certificates, in the form in which it is kept."""

import ipaddress
import re
from contextlib import suppress
from typing import Final

from contracts.errors import CertwireError, ErrorCode

WILDCARD: Final = "*"
_KINDS: Final = ("DNS", "IP", "email", "URI")
"""As names are printed: see `identities.printed`."""
_INSTANCE: Final = re.compile(r"spiffe://[^/]+/instance/([0-9a-f-]{36})\Z")
_ESCAPED: Final = str.maketrans({character: f"\\{character}" for character in "\\%_"})


def common_name_condition(text: str | None) -> tuple[str | None, str | None]:
    """Return a whole common name, or a pattern for LIKE.

    Raises `INVALID_REQUEST` for a beginning of nothing.
    """
    if text is None or not text.endswith(WILDCARD):
        return text, None
    beginning = text.removesuffix(WILDCARD)
    if not beginning:
        raise CertwireError(
            ErrorCode.INVALID_REQUEST,
            "a beginning has one character at least",
            parameters={"field": "common_name"},
        )
    return None, f"{beginning.translate(_ESCAPED)}%"


def possible_names(text: str) -> tuple[str, ...]:
    """Return the alternative names that a text may mean, as they are printed.

    Such as `DNS:localhost`; without the kind it may be of any.
    """
    kind, colon, value = text.partition(":")
    if colon and kind in _KINDS:
        return (_kept(kind, value),)
    return tuple(dict.fromkeys(_kept(kind, text) for kind in _KINDS))


def instance_common_name(text: str) -> str | None:
    """Return the common name in certificates that have this SPIFFE ID, where it is an instance's.

    See `identities.instance`.
    """
    found = _INSTANCE.search(text)
    return f"instance:{found[1]}" if found else None


def _kept(kind: str, value: str) -> str:
    if kind == "DNS":
        value = value.lower()
    if kind == "IP":
        with suppress(ValueError):
            value = str(ipaddress.ip_address(value))
    if kind == "email":
        local, at, domain = value.rpartition("@")
        value = f"{local}{at}{domain.lower()}"
    return f"{kind}:{value}"
