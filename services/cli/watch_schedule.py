"""When a watched project is looked at again: rules without I/O, clock or randomness.

Seconds are those of a clock that never jumps. Where no events come, projects are looked at more
often; where they come, every hour regardless: a lost one never matters.
"""

from dataclasses import dataclass, replace
from typing import Final

HOUR_SECONDS: Final = 3600.0
POLL_SECONDS: Final = 300.0
SPREAD: Final = 0.2
"""Of these, so that machines that were started together do not come together."""
LEAST_SECONDS: Final = 1.0
"""Between two looks, however much news there is."""
FIRST_RETRY_SECONDS: Final = 5.0
LONGEST_RETRY_SECONDS: Final = 300.0
NEVER: Final = float("-inf")
_DOUBLINGS: Final = 16


@dataclass(frozen=True, slots=True)
class Looks:
    """At one project: how the last one went, and whether there is news. Jitters are 0 to 1."""

    tried_at: float = NEVER
    jitter: float = 0.5
    has_news: bool = True
    failures: int = 0
    delay: float = 0.0
    """After a failure."""

    def seconds_until(self, now: float, *, events: bool) -> float:
        """Return in how many seconds it is looked at; `events` says whether any come."""
        if self.has_news:
            interval = LEAST_SECONDS
        elif self.failures:
            interval = self.delay
        else:
            interval = HOUR_SECONDS if events else POLL_SECONDS
            interval *= 1 + SPREAD * (self.jitter - 0.5)
        return max(0.0, self.tried_at + interval - now)

    def heard(self) -> "Looks":
        """Return what follows from an event: it is looked at soon, also where it failed before."""
        return replace(self, has_news=True)

    def succeeded(self, now: float, jitter: float) -> "Looks":
        """Return what follows from a look."""
        return Looks(now, jitter, has_news=False)

    def failed(self, now: float, jitter: float, retry_after: float | None = None) -> "Looks":
        """Return what follows from one that failed; `retry_after` in seconds is the platform's."""
        delay = back_off(self.failures, jitter)
        if retry_after is not None:
            delay = max(delay, min(retry_after, HOUR_SECONDS))
        return Looks(now, jitter, has_news=False, failures=self.failures + 1, delay=delay)


def back_off(failures: int, jitter: float) -> float:
    """Return the seconds after one failure more; the later half of them by `jitter`."""
    doubled: float = FIRST_RETRY_SECONDS * 2 ** min(failures, _DOUBLINGS)
    return min(doubled, LONGEST_RETRY_SECONDS) * (0.5 + 0.5 * jitter)
