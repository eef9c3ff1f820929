"""Lines of a tail, for a person and for a program."""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue

WIDEST: Final = 36
"""A column does not grow beyond; longer texts push the rest of their own line."""


class Columns:
    """Columns that are as wide as their widest text so far."""

    def __init__(self, *widths: int) -> None:
        self._widths = list(widths)

    def line(self, cells: Iterable[str]) -> str:
        """Return one line; the last cell may be as long as it likes."""
        shown = [printable(cell) for cell in cells]
        for number in range(len(self._widths)):
            self._widths[number] = max(self._widths[number], min(len(shown[number]), WIDEST))
        padded = [cell.ljust(width) for cell, width in zip(shown, self._widths, strict=False)]
        return "  ".join([*padded, *shown[len(self._widths) :]]).rstrip()


class Lines:
    """Prints lines as they come; before `release`, where `last` is set, only the last ones."""

    def __init__(self, last: int | None) -> None:
        self._held: deque[str] | None = None if last is None else deque(maxlen=last)

    def add(self, line: str) -> None:
        """Print the line, now or later."""
        if self._held is None:
            print(line, flush=True)
        else:
            self._held.append(line)

    def release(self) -> None:
        """Print what was held back; from now on nothing is."""
        held, self._held = self._held, None
        for line in held or ():
            print(line, flush=True)


def printable(text: str) -> str:
    """Return the text without anything that a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown_time(moment: datetime) -> str:
    """Return a time to the millisecond, in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown_detail(detail: Mapping[str, JsonValue]) -> str:
    """Return `name=value` for each; texts without quotes where they have no space."""
    parts = []
    for name, value in detail.items():
        plain = isinstance(value, str) and value and not any(c.isspace() for c in value)
        parts.append(f"{name}={value if plain else json.dumps(value, ensure_ascii=False)}")
    return " ".join(parts)
