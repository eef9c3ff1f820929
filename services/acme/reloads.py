"""The reload command of this replica: for whoever has changed files, one run at a time.

Those who come while one goes on share the next one: it begins after all their changes.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from shared import live_directory
from shared.operator_command import SECONDS, Ended, OperatorCommand

LOG: Final = logging.getLogger(__name__)

FIRST_RETRY_SECONDS: Final = 5.0
LONGEST_RETRY_SECONDS: Final = 300.0
"""Then a failed command is run again, whether or not anything else has changed."""
_DOUBLINGS: Final = 16


class Reloads:
    """Runs the command until it succeeds; what is due stands in the directory."""

    def __init__(self, root: Path, line: str | None) -> None:
        self._root = root
        self._line = line
        self._next: asyncio.Task[Ended] | None = None
        self._running: asyncio.Task[Ended] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._tried: str | None = None
        """What was due when the command was run last."""
        self._failures = 0
        self._retry_at = 0.0
        self.problem: str | None = None
        """Why the last one failed."""

    async def run(self) -> Ended:
        """Return how a reload ended that began after this call; one that need not be is a success.

        It goes on where the caller does not wait for it.
        """
        return await asyncio.shield(self._begun())

    async def keep_up(self) -> None:
        """Begin one where one is due: after a failure, and after a crash before it."""
        if self._line is None or self._one_at_a_time.locked():
            return
        try:
            due = await asyncio.to_thread(live_directory.reload_due, self._root)
        except OSError:
            return  # the files are no better off, and that is said
        is_new = due != self._tried
        if due is not None and (is_new or time.monotonic() >= self._retry_at):
            self._begun()

    def _begun(self) -> "asyncio.Task[Ended]":
        if self._next is None:
            self._next = asyncio.create_task(self._reload())
        return self._next

    async def _reload(self) -> Ended:
        try:
            async with self._one_at_a_time:
                self._running, self._next = self._next, None
                ended = await self._run_command()
                self._note(ended)
                return ended
        finally:
            if self._next is asyncio.current_task():  # it was told to stop while it waited
                self._next = None

    async def _run_command(self) -> Ended:
        try:
            due = await asyncio.to_thread(live_directory.reload_due, self._root)
            if self._line is None or due is None:
                return Ended(ok=True)
            self._tried = due
            command = OperatorCommand(self._line)
            command.start()
            try:
                ended = await asyncio.to_thread(command.wait, SECONDS)
            except asyncio.CancelledError:
                command.kill()
                raise
            if ended.ok:
                await asyncio.to_thread(live_directory.reload_done, self._root, due)
        except OSError as error:
            return Ended(ok=False, reason=f"may be needed again: {error.strerror or error}")
        return ended

    def _note(self, ended: Ended) -> None:
        if ended.ok:
            if self.problem is not None:
                LOG.info("the reload command succeeds again")
            self._failures, self._retry_at, self.problem = 0, 0.0, None
            return
        if self.problem != ended.reason:
            said = {"reason": ended.reason, "output": ended.output}
            LOG.warning("the reload command failed", extra=said)
        self.problem = ended.reason
        delay = FIRST_RETRY_SECONDS * 2 ** min(self._failures, _DOUBLINGS)
        self._failures += 1
        self._retry_at = time.monotonic() + min(delay, LONGEST_RETRY_SECONDS)
