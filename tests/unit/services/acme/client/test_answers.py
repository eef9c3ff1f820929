"""Headers and statuses of answers."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.acme.client.answers import RETRY_AFTER_MOST, Answer, read_retry_after

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


def answer(*headers: tuple[str, str]) -> Answer:
    return Answer(200, httpx2.Headers(list(headers)), b"")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("1000000000000", RETRY_AFTER_MOST),
        ("9" * 10_000, RETRY_AFTER_MOST),
        ("Tue, 01 Jan 2030 12:01:00 GMT", 60),
        ("Tuesday, 01-Jan-30 12:01:00 GMT", 60),
        ("Tue, 01 Jan 2030 11:00:00 GMT", 0),
        ("Tue, 01 Jan 9999 11:00:00 GMT", RETRY_AFTER_MOST),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("²", None),
        ("٣", None),
        ("Tue, 01 Jan 2030", None),
        ("Tue, 01 Jan 2030 12:01:00 -0000", None),
        ("Tue, 32 Jan 2030 12:01:00 GMT", None),
        ("Tue, 01 Jan 99999999999 12:01:00 GMT", None),
        ("x" * 100_000, None),
    ],
)
def test_retry_after(said: str, seconds: int | None) -> None:
    assert read_retry_after(said, NOW) == seconds


@given(st.text())
def test_any_retry_after_is_bounded(said: str) -> None:
    seconds = read_retry_after(said, NOW)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_MOST


@given(st.integers(min_value=0, max_value=RETRY_AFTER_MOST))
def test_dates_are_seconds(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert read_retry_after(date, NOW) == seconds


def test_links() -> None:
    said = answer(
        ("Link", '<https://ca/dir>;rel="index"'),
        ("Link", '<https://ca/1>; title="x"; rel="alternate up", <https://ca/2>;REL=ALTERNATE'),
        ("link", "<https://ca/3> ; rel = alternate"),
        ("Link", '<https://ca/4>;rel="alternates", <https://ca/5>, https://ca/6;rel=alternate'),
    )
    assert list(said.links("alternate")) == ["https://ca/1", "https://ca/2", "https://ca/3"]
    assert list(said.links("index")) == ["https://ca/dir"]


def test_links_that_take_long_to_read() -> None:
    said = answer(("Link", "<" * 50_000), ("Link", "<>;" * 20_000), ("Link", ";rel=" * 10_000))
    assert list(said.links("alternate")) == []


@pytest.mark.parametrize(
    ("said", "meant"),
    [("application/json", "application/json"), ("Text/HTML ; charset=x", "text/html"), ("", "")],
)
def test_media_types(said: str, meant: str) -> None:
    assert answer(("Content-Type", said)).media_type == meant
    assert answer().media_type == ""
