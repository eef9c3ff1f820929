"""When an agent does what: a state machine without I/O, clock or randomness.

What is to be done stands in files (`Facts`), so that a killed agent goes on where it was; what is
remembered here is only how often a task has failed and until when it waits.

| Task | is wanted |
|---|---|
| RENEW | from two thirds of the certificate's life on, and while a begun renewal has no answer |
| RUN_HOOK | while the hook has not succeeded for what the files hold |
| REFRESH_SECRETS | always, for instances: every so often |

A task that failed is tried again after an exponentially growing while. The shorter a certificate
lives, the shorter that is: a life has room for forty of the longest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Final, assert_never

RENEW_AT: Final = 2 / 3
"""Of a certificate's life, as everywhere on the platform."""
SPREAD: Final = 0.05
"""Of a certificate's life, around that: so that machines made together do not come together."""
FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 300.0
LONGEST_RETRIES_IN_A_LIFE: Final = 40
LONGEST_WAIT_SECONDS: Final = 60.0
"""Then the files and the clock are looked at again."""
PATIENCE: Final = 1 / 4
"""Of what is left of a certificate's life: no `Retry-After` puts a renewal off for longer."""
REFRESH_SPREAD: Final = 0.2


class Task(Enum):
    """What an agent does, the most urgent first."""

    RENEW = "renew the certificate"
    RUN_HOOK = "run the hook"
    REFRESH_SECRETS = "refresh the secrets"


@dataclass(frozen=True, slots=True)
class Now:
    """The time: by the calendar, and in seconds that never jump."""

    date: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What the files say. `spread`, from 0 to 1, is the certificate's own; None: no instance."""

    not_before: datetime
    not_after: datetime
    spread: float = 0.5
    renewal_begun: bool = False
    hook_due: bool = False
    secrets_seconds: float | None = None

    @property
    def life(self) -> timedelta:
        return self.not_after - self.not_before

    @property
    def renew_at(self) -> datetime:
        """Return when the certificate is due."""
        return self.not_before + self.life * (RENEW_AT + SPREAD * (self.spread - 0.5))


@dataclass(frozen=True, slots=True)
class Attempts:
    """Of one task: how many failed in a row, and before when the next one is not made."""

    failures: int = 0
    not_before_seconds: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Schedule:
    """What was tried so far."""

    attempts: Mapping[Task, Attempts] = field(
        default_factory=lambda: MappingProxyType(dict.fromkeys(Task, Attempts()))
    )

    def next(self, facts: Facts, now: Now) -> Task | float:
        """Return the task to do now, else for how many seconds there is none."""
        wait = LONGEST_WAIT_SECONDS
        for task in Task:
            seconds = self._seconds_until(task, facts, now)
            if seconds <= 0:
                return task
            wait = min(wait, seconds)
        return wait

    def failures(self, task: Task) -> int:
        """Return how often a task has failed in a row."""
        return self.attempts[task].failures

    def succeeded(self, task: Task, facts: Facts, now: Now, jitter: float) -> "Schedule":
        """Return the schedule after a task was done; `jitter` is from 0 to 1."""
        if task is not Task.REFRESH_SECRETS or facts.secrets_seconds is None:
            return self._with(task, Attempts())
        spread = 1 + REFRESH_SPREAD * (jitter - 0.5)
        return self._with(task, Attempts(0, now.seconds + facts.secrets_seconds * spread))

    def failed(
        self, task: Task, facts: Facts, now: Now, jitter: float, retry_after: float | None = None
    ) -> "Schedule":
        """Return the schedule after a task failed; `retry_after` in seconds is the platform's."""
        failures = self.failures(task)
        delay = back_off(failures, facts.life, jitter)
        if retry_after is not None:
            left = (facts.not_after - now.date).total_seconds()
            delay = max(delay, min(retry_after, left * PATIENCE))
        return self._with(task, Attempts(failures + 1, now.seconds + delay))

    def _seconds_until(self, task: Task, facts: Facts, now: Now) -> float:
        """Return in how many seconds a task is due; infinity where it is not wanted."""
        may = self.attempts[task].not_before_seconds - now.seconds
        match task:
            case Task.RENEW:
                begun = facts.renewal_begun
                wanted = 0.0 if begun else (facts.renew_at - now.date).total_seconds()
            case Task.RUN_HOOK:
                wanted = 0.0 if facts.hook_due else float("inf")
            case Task.REFRESH_SECRETS:
                wanted = float("inf") if facts.secrets_seconds is None else 0.0
            case _:
                assert_never(task)
        return max(may, wanted)

    def _with(self, task: Task, attempts: Attempts) -> "Schedule":
        return replace(self, attempts=MappingProxyType({**self.attempts, task: attempts}))


def back_off(failures: int, life: timedelta, jitter: float) -> float:
    """Return the seconds after one failure more; the later half of them by `jitter`."""
    longest = life.total_seconds() / LONGEST_RETRIES_IN_A_LIFE
    longest = min(max(longest, FIRST_RETRY_SECONDS), LONGEST_RETRY_SECONDS)
    doubled: float = FIRST_RETRY_SECONDS * 2 ** min(failures, 16)
    return min(doubled, longest) * (0.5 + 0.5 * jitter)
