"""Many waiting changes in one transaction: one commit for all that came meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from contracts.errors import CertwireError, ErrorCode
from shared.database import BUSY, Connection, Database
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
        lost: ErrorCode = ErrorCode.OUTCOME_UNKNOWN,
    ) -> None:
        """`lost` is what to say where the server goes meanwhile: of a query, `UNAVAILABLE`."""
        self._lost = lost
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
            # A context of its own: a cycle serves many requests, not the one that began it.
            self._running.add(asyncio.create_task(self._cycle(), context=Context()))
        with statement_span(self._name):
            return await future

    async def _cycle(self) -> None:
        try:
            await self._serve_waiting()
        finally:  # not in a callback of the task: who submits before it would find no cycle
            self._running.discard(asyncio.current_task())

    async def _serve_waiting(self) -> None:
        while self._waiting:
            group = self._waiting[:MOST_IN_ONE_COMMIT]
            del self._waiting[:MOST_IN_ONE_COMMIT]
            try:
                await self._commit(group)
            except Exception as error:  # noqa: BLE001 - it is the members'
                _fail(group, error)
            except BaseException:
                _fail(group, asyncio.CancelledError())
                raise

    async def _commit(self, group: list[tuple[ItemT, asyncio.Future[ResultT]]]) -> None:
        try:
            async with self._database.connection(self._lost) as connection:
                results = await self._apply(connection, [item for item, _ in group])
        except Exception as error:
            if len(group) == 1 or _is_lost(error):
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
            except Exception as error:
                if _is_lost(error):
                    raise
                _fail([member], error)


def _is_lost(error: Exception) -> bool:
    """Whether the server is away, or nobody knows if it committed: once more is no remedy."""
    return (
        isinstance(error, CertwireError)
        and error.code in {ErrorCode.UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN}
        and not isinstance(error.__cause__, BUSY)
    )


def _fail(group: list[tuple[ItemT, asyncio.Future[ResultT]]], error: BaseException) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error)
