"""Parameters of several groups of routes, within what the services can look up."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Path, Query
from pydantic import AfterValidator, BeforeValidator, Field

from services.gateway.dialects.dialect import decimal

TEXT_CHARACTERS: Final = 1024
NO_NUL: Final = r"^[^\x00]*$"
"""Postgres cannot hold U+0000."""
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _in_utc(moment: datetime) -> datetime:
    """Return the moment in UTC, which it is taken for where it has no zone."""
    try:
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError("a time between the years 1 and 9999") from None


def _dated(text: object) -> object:
    """Return a text that begins with a date; pydantic alone would take seconds since 1970 too."""
    if isinstance(text, str) and not _DATE.match(text):
        raise ValueError("a time as in RFC 3339")
    return text


Id = Annotated[int, Field(ge=1, lt=2**63), BeforeValidator(decimal), Path()]
Text = Annotated[str | None, Query(max_length=TEXT_CHARACTERS, pattern=NO_NUL)]
Number = Annotated[int | None, Query(ge=0, lt=2**63)]
Moment = Annotated[datetime | None, BeforeValidator(_dated), AfterValidator(_in_utc), Query()]
Skip = Annotated[int, Query(ge=0, lt=2**31)]
Limit = Annotated[int, Query(ge=1, le=1000)]
