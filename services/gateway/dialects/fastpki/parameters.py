"""Parameters of several groups of routes, within what the services can look up."""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Path, Query
from pydantic import AfterValidator, BeforeValidator, Field

TEXT_CHARACTERS: Final = 1024
NO_NUL: Final = r"^[^\x00]*$"
"""Postgres cannot hold U+0000."""


def _in_utc(moment: datetime) -> datetime:
    """Return the moment in UTC, which it is taken for where it has no zone."""
    try:
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError("a time between the years 1 and 9999") from None


def _decimal(text: str) -> str:
    """Return the digits of a number; pydantic alone would take `1_0`, ` 1` and `1.0` too."""
    if not (text.isascii() and text.isdigit() and text[0] != "0"):
        raise ValueError("an id is a number in decimal digits")
    return text


Id = Annotated[int, Field(ge=1, lt=2**63), BeforeValidator(_decimal), Path()]
Text = Annotated[str | None, Query(max_length=TEXT_CHARACTERS, pattern=NO_NUL)]
Number = Annotated[int | None, Query(ge=0, lt=2**63)]
Moment = Annotated[datetime | None, AfterValidator(_in_utc), Query()]
Skip = Annotated[int, Query(ge=0, lt=2**31)]
Limit = Annotated[int, Query(ge=1, le=1000)]
