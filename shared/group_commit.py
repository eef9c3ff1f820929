"""Many waiting changes in one transaction: one commit for all that came meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from contracts.errors import CertwireError, ErrorCode
from shared.database import Connection, Database
from shared.telemetry import statement_span

MOST_IN_ONE_COMMIT: Final = 32
"""More than this in one statement gains nothing (measured: docs/benchmarks.md)."""
CYCLES: Final = 2
"""Connections used in alternation: one commits while the other collects."""

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class GroupCommit(Generic[ItemT, ResultT]):
    """Applies items with one statement a group.

    `apply` runs exactly one statement on the connection it gets, and returns the items' results in
    order. Where it fails, each item is tried again alone, so that one cannot spoil the others.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        apply: Callable[[Connection, Sequence[ItemT]], Awaitable[Sequence[ResultT]]],
    ) -> None:
        self._name = name
        self._database = database
        self._apply = apply
        self._waiting: list[tuple[ItemT, asyncio.Future[ResultT]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, item: ItemT) -> ResultT:
        """Apply one item and return its result once it is committed."""
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._running) < CYCLES:
            task = asyncio.create_task(self._cycle())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        with statement_span(self._name):
            return await future

    async def _cycle(self) -> None:
        while self._waiting:
            group = self._waiting[:MOST_IN_ONE_COMMIT]
            del self._waiting[:MOST_IN_ONE_COMMIT]
            try:
                await self._commit(group)
            except BaseException as error:
                for _, future in group:
                    if not future.done():
                        future.set_exception(
                            error if isinstance(error, Exception) else asyncio.CancelledError()
                        )
                if not isinstance(error, Exception):
                    raise

    async def _commit(self, group: list[tuple[ItemT, asyncio.Future[ResultT]]]) -> None:
        try:
            results = await self._statement([item for item, _ in group])
        except CertwireError as error:
            # The server is away, or nobody knows whether it committed: once more is no remedy.
            if len(group) == 1 or error.code in {ErrorCode.UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN}:
                raise
            await self._one_by_one(group)
        except Exception:
            if len(group) == 1:
                raise
            await self._one_by_one(group)
        else:
            for (_, future), result in zip(group, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _one_by_one(self, group: list[tuple[ItemT, asyncio.Future[ResultT]]]) -> None:
        for member in group:
            try:
                await self._commit([member])
            except Exception as error:  # noqa: BLE001 - it is the member's
                if not member[1].done():
                    member[1].set_exception(error)

    async def _statement(self, items: list[ItemT]) -> Sequence[ResultT]:
        async with self._database.statement() as connection:
            return await self._apply(connection, items)
