"""What an operator has to know of orders and certificates: the warnings of `certwire status`."""

from typing import Final

from services.acme.client.problems import plain
from services.acme.store import condition
from services.acme.store.condition import Failing, Pending, Staying
from shared.clock import rfc3339, utc_now
from shared.database import Database

ENDS_DAYS: Final = 14
"""Renewals begin a month before the end: for two weeks they are tried without a person."""
STAYING_ATTEMPTS: Final = 5
"""A provider that was away for ten minutes is no news."""
MANY_ORDERS: Final = 100
"""As many as renewals begin in an hour with the settings as they come; one takes a minute."""
REASON_CHARACTERS: Final = 200
"""A line of the terminal or two; the whole text is in the project's status."""


async def warnings(database: Database) -> list[str]:
    """Return what needs a person, or will."""
    async with database.connection() as connection:
        failing = await condition.failing(connection, ENDS_DAYS)
        paused = await condition.paused(connection)
        staying = await condition.staying(connection, STAYING_ATTEMPTS)
        pending = await condition.pending(connection)
    found = [_failing(failing)] if failing else []
    found += [
        f"{each.directory} is left alone until {rfc3339(each.until)}: {_short(each.reason)}"
        for each in paused
    ]
    found += [_staying(staying)] if staying else []
    found += [_pending(pending)] if pending.orders > MANY_ORDERS else []
    return found


def _failing(failing: Failing) -> str:
    ends = "ends" if failing.not_after > utc_now() else "ended"
    first = f"{failing.domain} {ends} at {rfc3339(failing.not_after)}: {_short(failing.error)}"
    if failing.certificates == 1:
        return f"a certificate could not be renewed, that of {first}"
    return (
        f"{failing.certificates} certificates that end within {ENDS_DAYS} days could not be"
        f" renewed; that of {first}"
    )


def _staying(staying: Staying) -> str:
    one = f"{staying.name} at {staying.provider}"
    if staying.records == 1:
        return f"a TXT record could not be removed yet: {one}"
    return f"{staying.records} TXT records could not be removed yet, such as {one}"


def _pending(pending: Pending) -> str:
    since = f", the oldest since {rfc3339(pending.since)}" if pending.since else ""
    return f"{pending.orders} orders go on{since}"


def _short(reason: str) -> str:
    return plain(reason, REASON_CHARACTERS) or "no reason is known"
