"""The one form in which moments are printed for ever."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.clock import rfc3339, utc_now


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC), "2026-11-21T12:00:00.000000Z"),
        (datetime(2026, 11, 21, 12, 0, 0, 5, tzinfo=UTC), "2026-11-21T12:00:00.000005Z"),
        (
            datetime(2026, 11, 21, 0, 30, tzinfo=timezone(timedelta(hours=2))),
            "2026-11-20T22:30:00.000000Z",
        ),
    ],
)
def test_a_moment_is_printed_in_utc_with_microseconds(moment: datetime, text: str) -> None:
    assert rfc3339(moment) == text


def test_now_has_its_zone() -> None:
    assert utc_now().utcoffset() == timedelta(0)
