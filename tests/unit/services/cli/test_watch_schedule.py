"""Tests of services.cli.watch_schedule: when a watched project is looked at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.watch_schedule import (
    HOUR_SECONDS,
    LEAST_SECONDS,
    LONGEST_RETRY_SECONDS,
    POLL_SECONDS,
    Looks,
)

MIDDLE = 0.5


def test_a_project_is_looked_at_at_the_start() -> None:
    assert Looks().seconds_until(0, events=True) == 0


@pytest.mark.parametrize(("events", "interval"), [(True, HOUR_SECONDS), (False, POLL_SECONDS)])
def test_it_is_looked_at_every_hour_and_more_often_without_events(
    events: bool,  # noqa: FBT001 - a parameter
    interval: float,
) -> None:
    looks = Looks().succeeded(1000, MIDDLE)
    assert looks.seconds_until(1000, events=events) == interval
    assert looks.seconds_until(1000 + interval, events=events) == 0
    spread = [Looks().succeeded(0, jitter).seconds_until(0, events=events) for jitter in (0, 1)]
    assert spread == [0.9 * interval, 1.1 * interval]


def test_where_events_end_the_next_look_is_sooner() -> None:
    looks = Looks().succeeded(0, MIDDLE)
    assert looks.seconds_until(POLL_SECONDS, events=True) > 0
    assert looks.seconds_until(POLL_SECONDS, events=False) == 0


def test_news_are_looked_at_soon_however_many_there_are() -> None:
    looks = Looks().succeeded(1000, MIDDLE).heard().heard()
    assert looks.seconds_until(1000, events=True) == LEAST_SECONDS
    assert looks.seconds_until(1001, events=True) == 0
    assert looks.succeeded(1001, MIDDLE).seconds_until(1001, events=True) == HOUR_SECONDS


def test_failures_wait_longer_and_longer() -> None:
    looks, waits = Looks(), []
    for _ in range(9):
        looks = looks.failed(0, 1)
        waits.append(looks.seconds_until(0, events=True))
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert looks.succeeded(0, MIDDLE).failures == 0
    assert looks.heard().seconds_until(LEAST_SECONDS, events=True) == 0
    assert looks.heard().failed(2, 1).seconds_until(2, events=True) == 300


def test_the_platform_may_ask_for_patience_but_not_for_ever() -> None:
    def wait(retry_after: float) -> float:
        return Looks().failed(0, 1, retry_after).seconds_until(0, events=True)

    assert wait(1) == 5
    assert wait(77) == 77
    assert wait(1e9) == HOUR_SECONDS


@given(
    st.integers(0, 10_000),
    st.floats(0, 1),
    st.floats(0, 1e9),
    st.none() | st.floats(0, 1e9),
    st.booleans(),
)
def test_there_is_always_a_pause_and_never_a_long_one(
    failures: int,
    jitter: float,
    now: float,
    retry_after: float | None,
    events: bool,  # noqa: FBT001 - a parameter
) -> None:
    failed = Looks(failures=failures).failed(now, jitter, retry_after)
    for looks in (failed, failed.heard(), failed.succeeded(now, jitter)):
        assert 0.9 < looks.seconds_until(now, events=events) <= 1.1 * HOUR_SECONDS
    if retry_after is None:
        assert failed.seconds_until(now, events=events) <= LONGEST_RETRY_SECONDS
