"""Tests of services.cli.agent_schedule: every task, wanted and failed, at every age."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.agent_schedule import (
    LONGEST_RETRY_SECONDS,
    LONGEST_WAIT_SECONDS,
    Facts,
    Now,
    Schedule,
    Task,
    back_off,
)

BEGAN = datetime(2026, 4, 19, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FACTS = Facts(BEGAN, BEGAN + DAY)
INSTANCE = replace(FACTS, secrets_seconds=900.0)
LIVES = (timedelta(seconds=60), timedelta(minutes=10), DAY, timedelta(days=731))


def at(share: float, facts: Facts = FACTS, seconds: float = 0) -> Now:
    """Return the moment at a share of the certificate's life."""
    return Now(facts.not_before + facts.life * share, seconds)


# --- Renewal ----------------------------------------------------------------------------------


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_renews_at_two_thirds_of_a_life(life: timedelta, spread: float) -> None:
    facts = Facts(BEGAN, BEGAN + life, spread)
    share = (facts.renew_at - BEGAN) / life
    assert share == pytest.approx(2 / 3 + 0.05 * (spread - 0.5))
    moment = Now(facts.renew_at, 0)
    assert Schedule().next(facts, moment) is Task.RENEW
    wait = Schedule().next(facts, replace(moment, date=moment.date - timedelta(seconds=5)))
    assert wait == pytest.approx(5)


def test_waits_a_minute_at_most_to_look_at_the_clock_again() -> None:
    assert Schedule().next(FACTS, at(0.1)) == LONGEST_WAIT_SECONDS


@pytest.mark.parametrize("share", [-10.0, 0.0, 0.5, 0.7, 0.99, 1.0, 5.0])
def test_a_renewal_that_was_begun_goes_on_at_any_time(share: float) -> None:
    facts = replace(FACTS, renewal_begun=True)
    assert Schedule().next(facts, at(share)) is Task.RENEW


@pytest.mark.parametrize("share", [0.7, 0.99, 1.0, 5.0])
def test_a_due_or_expired_certificate_is_renewed(share: float) -> None:
    assert Schedule().next(FACTS, at(share)) is Task.RENEW


def test_a_clock_that_is_behind_renews_nothing() -> None:
    assert Schedule().next(FACTS, at(-1)) == LONGEST_WAIT_SECONDS


# --- Other tasks --------------------------------------------------------------------------------


def test_the_most_urgent_task_comes_first() -> None:
    facts = replace(INSTANCE, hook_due=True, renewal_begun=True)
    schedule, done = Schedule(), []
    for task in Task:
        found = schedule.next(facts, at(0))
        done.append(found)
        schedule = schedule.failed(task, facts, at(0), 1)
    assert done == [Task.RENEW, Task.RUN_HOOK, Task.REFRESH_SECRETS]
    assert schedule.next(facts, at(0)) == pytest.approx(1)


@pytest.mark.parametrize("failing", list(Task))
def test_a_task_that_fails_holds_up_no_other(failing: Task) -> None:
    facts = replace(INSTANCE, hook_due=True, renewal_begun=True)
    schedule = Schedule().failed(failing, facts, at(0), 1)
    done = []
    for _ in range(2):
        task = schedule.next(facts, at(0))
        assert isinstance(task, Task)
        done.append(task)
        schedule = schedule.failed(task, facts, at(0), 1)
    assert set(done) == set(Task) - {failing}


def test_secrets_are_refreshed_now_and_then() -> None:
    schedule = Schedule()
    assert schedule.next(INSTANCE, at(0)) is Task.REFRESH_SECRETS
    schedule = schedule.succeeded(Task.REFRESH_SECRETS, INSTANCE, at(0), 0.5)
    assert schedule.next(INSTANCE, at(0, seconds=870)) == pytest.approx(30)
    assert schedule.next(INSTANCE, at(0, seconds=900)) is Task.REFRESH_SECRETS
    early = schedule.succeeded(Task.REFRESH_SECRETS, INSTANCE, at(0), 0)
    assert early.next(INSTANCE, at(0, seconds=810)) is Task.REFRESH_SECRETS


def test_agents_have_no_secrets() -> None:
    schedule = Schedule().succeeded(Task.REFRESH_SECRETS, FACTS, at(0), 0.5)
    assert schedule.next(FACTS, at(0, seconds=10_000)) == LONGEST_WAIT_SECONDS


def test_what_was_done_is_not_due_again() -> None:
    facts = replace(FACTS, hook_due=True)
    schedule = Schedule().failed(Task.RUN_HOOK, facts, at(0), 1)
    schedule = schedule.succeeded(Task.RUN_HOOK, facts, at(0), 1)
    assert schedule.failures(Task.RUN_HOOK) == 0
    assert schedule.next(facts, at(0)) is Task.RUN_HOOK  # the files say that it is due
    assert schedule.next(FACTS, at(0)) == LONGEST_WAIT_SECONDS


# --- Failure ------------------------------------------------------------------------------------


@pytest.mark.parametrize("life", LIVES)
def test_retries_come_ever_later_up_to_a_bound(life: timedelta) -> None:
    delays = [back_off(failures, life, 1) for failures in range(40)]
    assert delays[0] == 1
    assert all(earlier <= later for earlier, later in pairwise(delays))
    bound = min(max(life.total_seconds() / 40, 1), LONGEST_RETRY_SECONDS)
    assert delays[-1] == bound


@given(st.integers(0, 10_000), st.floats(0, 1), st.sampled_from(LIVES))
def test_jitter_takes_away_half_at_most(failures: int, jitter: float, life: timedelta) -> None:
    full = back_off(failures, life, 1)
    assert full / 2 <= back_off(failures, life, jitter) <= full


def test_an_outage_of_a_third_of_the_life_leaves_room_for_many_retries() -> None:
    for life in LIVES:
        facts = Facts(BEGAN, BEGAN + life)
        schedule, moment, tried = Schedule(), at(2 / 3, facts), 0
        while moment.date < facts.not_after:
            assert schedule.next(facts, moment) is Task.RENEW
            schedule = schedule.failed(Task.RENEW, facts, moment, 1)
            wait = schedule.attempts[Task.RENEW].not_before_seconds - moment.seconds
            moment = Now(moment.date + timedelta(seconds=wait), moment.seconds + wait)
            tried += 1
        assert tried >= 13


def test_retry_after_is_honoured() -> None:
    schedule = Schedule().failed(Task.RENEW, FACTS, at(0.7), 1, retry_after=1800)
    assert schedule.next(FACTS, at(0.7, seconds=1750)) == pytest.approx(50)
    assert schedule.next(FACTS, at(0.7, seconds=1800)) is Task.RENEW


def test_retry_after_does_not_outlast_the_certificate() -> None:
    schedule = Schedule().failed(Task.RENEW, FACTS, at(0.75), 1, retry_after=86_400)
    quarter_of_the_rest = 6 * 3600 / 4
    assert schedule.next(FACTS, at(0.75, seconds=quarter_of_the_rest)) is Task.RENEW
    expired = Schedule().failed(Task.RENEW, FACTS, at(2), 1, retry_after=86_400)
    assert expired.next(FACTS, at(2, seconds=1)) is Task.RENEW


def test_a_short_retry_after_does_not_press() -> None:
    schedule = Schedule()
    for _ in range(12):
        schedule = schedule.failed(Task.RENEW, FACTS, at(0.7), 1, retry_after=0)
    assert schedule.next(FACTS, at(0.7, seconds=299)) == pytest.approx(1)


@given(
    st.floats(-2, 3),
    st.floats(0, 1e6),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 60.0, 900.0]),
    st.lists(st.tuples(st.sampled_from(list(Task)), st.booleans(), st.floats(0, 1)), max_size=30),
)
def test_there_is_always_a_task_or_a_wait(
    share: float,
    seconds: float,
    begun: bool,  # noqa: FBT001 - hypothesis calls it
    hook_due: bool,  # noqa: FBT001 - hypothesis calls it
    secrets: float | None,
    history: list[tuple[Task, bool, float]],
) -> None:
    """Whatever happened before: a task that is wanted, or up to a minute of waiting."""
    facts = replace(FACTS, renewal_begun=begun, hook_due=hook_due, secrets_seconds=secrets)
    schedule, moment = Schedule(), at(share, seconds=seconds)
    for task, succeeded, jitter in history:
        after = schedule.succeeded if succeeded else schedule.failed
        schedule = after(task, facts, moment, jitter)
    found = schedule.next(facts, moment)
    if isinstance(found, float):
        assert 0 < found <= LONGEST_WAIT_SECONDS
    wanted = {
        Task.RENEW: begun or moment.date >= facts.renew_at,
        Task.RUN_HOOK: hook_due,
        Task.REFRESH_SECRETS: secrets is not None,
    }
    assert found not in [task for task in Task if not wanted[task]]
    later = replace(moment, seconds=seconds + 2000)
    if due := [task for task in Task if wanted[task]]:
        assert schedule.next(facts, later) in due
