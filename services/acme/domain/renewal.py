"""When certificates are renewed: by the CA's own word, else by their lifetime."""

from datetime import datetime, timedelta
from typing import Final

SHORT: Final = timedelta(days=10)
"""The rulings' number: what lives for less is renewed at half its lifetime, else at two thirds."""
SPREAD: Final = 0.05
"""Of the lifetime, by which renewals are earlier, so that those of one day are not of one hour."""
FIRST_RETRY: Final = timedelta(hours=1)
LAST_RETRY: Final = timedelta(days=1)
RETRIES: Final = 48
"""However short a certificate lives, a failed renewal is tried again within this part of it."""


def renewal_time(not_before: datetime, not_after: datetime, share: float) -> datetime:
    """Return when to renew by lifetime alone; `share`, from 0 to 1, is where in the spread."""
    lifetime = not_after - not_before
    part = 1 / 2 if lifetime < SHORT else 2 / 3
    return not_before + lifetime * (part - SPREAD * share)


def time_in_window(start: datetime, end: datetime, share: float) -> datetime:
    """Return a moment of the window that the CA suggests (RFC 9773 section 4.2)."""
    return start + (end - start) * share


def retry_time(
    now: datetime, failures: int, lifetime: timedelta, share: float, held_back: timedelta
) -> datetime:
    """Return when to try again after so many failures, the CA's Retry-After kept.

    Twice as late each time, from an hour to a day, a fifth more or less.
    """
    first = min(FIRST_RETRY, lifetime / RETRIES)
    last = max(first, min(LAST_RETRY, lifetime / RETRIES))
    delay = min(first * (1 << min(failures - 1, 16)), last) * (0.8 + 0.4 * share)
    return now + max(delay, held_back)
