"""When certificates are renewed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.acme.domain.renewal import renewal_time, retry_time, time_in_window

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SHARE = st.floats(0, 1)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("days", "share", "part"),
    [(90, 0, 2 / 3), (90, 1, 2 / 3 - 0.05), (10, 0, 2 / 3), (9, 0, 1 / 2), (6, 1, 0.45)],
)
def test_by_lifetime(days: int, share: float, part: float) -> None:
    due = renewal_time(BEGAN, BEGAN + days * DAY, share)
    assert abs(due - BEGAN - days * DAY * part) < timedelta(seconds=1)


@given(share=SHARE, hours=st.integers(1, 24 * 400))
def test_within_the_window_of_the_ca(share: float, hours: int) -> None:
    end = BEGAN + timedelta(hours=hours)
    assert BEGAN <= time_in_window(BEGAN, end, share) <= end


@given(share=SHARE)
def test_retries_come_later_each_time_and_not_after_a_day(share: float) -> None:
    waits = [
        retry_time(BEGAN, failures, 90 * DAY, share, timedelta(0)) - BEGAN
        for failures in range(1, 40)
    ]
    assert waits == sorted(waits)
    assert timedelta(minutes=48) <= waits[0] <= timedelta(minutes=72)
    assert waits[-1] <= DAY * 1.2


def test_what_lives_shortly_is_retried_soon() -> None:
    wait = retry_time(BEGAN, 20, timedelta(minutes=48), 0.5, timedelta(0)) - BEGAN
    assert wait == timedelta(minutes=1)


def test_the_ca_s_retry_after_counts() -> None:
    held_back = timedelta(days=7)
    assert retry_time(BEGAN, 1, 90 * DAY, 0.5, held_back) == BEGAN + held_back
