"""JSON of a CA, read member by member: whatever is not as it should be is the CA's misbehaviour."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar

from services.acme.client.problems import CaMisbehaves, plain
from services.acme.client.urls import Origin
from shared import json_body

TEXT_LIMIT: Final = 1000
"""Of characters; longer than any member that is kept."""

_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
"""RFC 3339 section 5.6, to the nanosecond."""

ValueT = TypeVar("ValueT")
EnumT = TypeVar("EnumT", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object. `what` names it to people; its URLs have to be of the origin."""

    what: str
    members: Mapping[str, object]
    origin: Origin

    @classmethod
    def parse(cls, what: str, body: bytes, origin: Origin) -> "Document":
        """Read a body. Raises CaMisbehaves."""
        try:
            return cls(what, members(json_body.parse(body)), origin)
        except (json.JSONDecodeError, ValueError) as error:
            raise CaMisbehaves(f"the {what} is not a JSON object") from error

    def within(self, what: str, value: object) -> "Document":
        """Return an object inside this one. Raises ValueError where it is none."""
        return Document(what, members(value), self.origin)

    def needed(self, name: str, read: Callable[[object], ValueT]) -> ValueT:
        """Return a member that has to be there, as `read` has it. Raises CaMisbehaves."""
        value = self.optional(name, read)
        if value is None:
            raise CaMisbehaves(f"the {self.what} has no '{name}'")
        return value

    def optional(self, name: str, read: Callable[[object], ValueT]) -> ValueT | None:
        """Return a member, None where it is not there or null. Raises CaMisbehaves."""
        value = self.members.get(name)
        if value is None:
            return None
        try:
            return read(value)
        except ValueError as error:
            raise CaMisbehaves(f"'{name}' of the {self.what}: {error}") from error

    def url(self, name: str) -> str:
        """Return an address that has to be there. Raises CaMisbehaves."""
        return self.needed(name, self.origin.checked)

    def optional_url(self, name: str) -> str | None:
        """Return an address. Raises CaMisbehaves."""
        return self.optional(name, self.origin.checked)


def members(value: object) -> Mapping[str, object]:
    """Read an object. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one error for whatever is wrong
    return value


def text(value: object) -> str:
    """Read a text. Raises ValueError."""
    if not isinstance(value, str) or len(value) > TEXT_LIMIT:
        raise ValueError("not a text, or too long")
    return value


def boolean(value: object) -> bool:
    """Read true or false. Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")  # noqa: TRY004 - one error for whatever is wrong
    return value


def moment(value: object) -> datetime:
    """Read a time (RFC 3339). Raises ValueError."""
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError("not a time")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("not a time") from error


def one_of(values: type[EnumT]) -> Callable[[object], EnumT]:
    """Return a reader of texts that are the values of an enumeration."""

    def read(value: object) -> EnumT:
        return values(plain(text(value)))

    return read


def list_of(read: Callable[[object], ValueT], limit: int) -> Callable[[object], tuple[ValueT, ...]]:
    """Return a reader of lists that have up to so many items."""

    def read_list(value: object) -> tuple[ValueT, ...]:
        if not isinstance(value, list) or len(value) > limit:
            raise ValueError("not a list, or too long")
        return tuple(read(item) for item in value)

    return read_list
