"""Waiting for what happens by itself, no longer than a test may."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

POLL_SECONDS = 0.05

FoundT = TypeVar("FoundT")


async def eventually(
    ask: Callable[[], Awaitable[FoundT]], what: str, *, seconds: float = 15
) -> FoundT:
    """Return the first answer that is true. Raises AssertionError where none comes in time."""
    deadline = time.monotonic() + seconds
    while not (found := await ask()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s, but {found!r}"
        await asyncio.sleep(POLL_SECONDS)
    return found
