"""What is looked for in an inventory of certificates, in the form in which it is kept."""

import base64
import binascii
import ipaddress
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final

from contracts.errors import CertwireError, ErrorCode

WILDCARD: Final = "*"
_KINDS: Final = ("DNS", "IP", "email", "URI")
"""As names are printed: see `identities.printed`."""
_INSTANCE: Final = re.compile(r"spiffe://[^/]+/instance/([0-9a-f-]{36})\Z")
_ESCAPED: Final = str.maketrans({character: f"\\{character}" for character in "\\%_"})

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_CURSOR: Final = struct.Struct(">BQq")


class Order(IntEnum):
    """How pages go on: by id, or by the end of validity and then by id."""

    NEWEST = 0
    SOONEST = 1
    LATEST = 2


@dataclass(frozen=True, slots=True)
class Position:
    """The last certificate that a page has seen."""

    order: Order
    id: int
    not_after: datetime

    def cursor(self) -> str:
        """Return it as it is handed out."""
        packed = _CURSOR.pack(self.order, self.id, (self.not_after - _EPOCH) // _TICK)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def position(cursor: str | None, order: Order) -> Position | None:
    """Return what a cursor says. Raises `INVALID_REQUEST` for that of another order, or of none."""
    if cursor is None:
        return None
    with suppress(binascii.Error, struct.error, ValueError, OverflowError):
        raw = base64.b64decode(cursor.encode("ascii") + b"=", altchars=b"-_", validate=True)
        number, certificate_id, ticks = _CURSOR.unpack(raw)
        if number == order and certificate_id < 2**63:
            return Position(order, certificate_id, _EPOCH + ticks * _TICK)
    raise CertwireError(
        ErrorCode.INVALID_REQUEST,
        "the cursor is not one of such a search",
        parameters={"field": "cursor"},
    )


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
