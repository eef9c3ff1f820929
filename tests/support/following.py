"""A command that goes on and on, such as `certwire audit tail`, and what it prints."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.support.platform import Platform


class Following:
    """The lines of a running command, in order."""

    def __init__(self, lines: asyncio.StreamReader) -> None:
        self._lines = lines
        self.seen: list[str] = []

    async def until(self, wanted: Callable[[str], bool], *, seconds: float = 20) -> str:
        """Return the first line from here on that is wanted."""
        async with asyncio.timeout(seconds):
            while line := (await self._lines.readline()).decode():
                self.seen.append(line.rstrip("\n"))
                if wanted(line):
                    return self.seen[-1]
        raise AssertionError("the command ended")


@asynccontextmanager
async def following(platform: Platform, *words: str) -> AsyncIterator[Following]:
    """Run a command of `certwire` until the block ends."""
    process = await platform.line.start(*words)
    assert process.stdout is not None
    try:
        yield Following(process.stdout)
    finally:
        process.terminate()
        await process.communicate()


def has(*words: str) -> Callable[[str], bool]:
    """Return whether a line has all the words."""
    return lambda line: all(word in line for word in words)
