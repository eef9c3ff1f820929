"""Who does the work: every replica takes orders that nobody has, under a lease that it keeps alive.

A replica that dies keeps its orders for as long as their leases, and then others have them.
"""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from services.acme.ordering import Ordering
from services.acme.service import Acme
from services.acme.store import orders
from services.acme.store.orders import OrderRow

LOG: Final = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked for orders that another replica took in, or gave up."""
PRUNE_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class _Work:
    """An order that is worked on, and the CA that it is at."""

    task: asyncio.Task[None]
    directory: str


class Workers:
    """The work of one replica; `run` is its background work."""

    def __init__(self, acme: Acme, ordering: Ordering) -> None:
        self._acme = acme
        self._ordering = ordering
        self._lease = uuid4()
        self._at_work: dict[UUID, _Work] = {}

    async def run(self) -> None:
        """Work for as long as the process lives; what is in work at its end is others' at once."""
        keeping = asyncio.create_task(self._keep())
        try:
            while True:
                self._acme.orders_waiting.clear()
                await self._take()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._acme.orders_waiting.wait()
        finally:
            keeping.cancel()
            await self._give_up()

    async def prune(self) -> None:
        """Forget orders that ended long ago."""
        while True:
            async with self._acme.runtime.database.statement() as connection:
                is_done = not await orders.prune(connection)
            if is_done:
                await asyncio.sleep(PRUNE_SECONDS)

    async def _take(self) -> None:
        """Take orders; none at a CA that has as many as it may, lest it keeps other CAs waiting."""
        most = self._acme.settings.acme_concurrent_orders
        counts = Counter(work.directory for work in self._at_work.values())
        full = [directory for directory, count in counts.items() if count >= most]
        free = most - max((count for count in counts.values() if count < most), default=0)
        seconds = self._acme.settings.acme_lease_seconds
        async with self._acme.runtime.database.statement() as connection:
            taken = await orders.claim(connection, self._lease, seconds, free, full)
        for order in taken:
            if order.id not in self._at_work:  # our own lease ran out, and we are at it still
                self._begin(order)

    def _begin(self, order: OrderRow) -> None:
        task = asyncio.create_task(self._ordering.work(order, self._lease))
        self._at_work[order.id] = _Work(task, order.directory)
        task.add_done_callback(lambda _: self._done(order.id))

    def _done(self, order_id: UUID) -> None:
        task = self._at_work.pop(order_id).task
        if not task.cancelled() and (problem := task.exception()) is not None:
            LOG.error("an order is gone on with later", exc_info=problem)
        self._acme.orders_waiting.set()

    async def _keep(self) -> None:
        """Keep the leases alive; end the work on an order that is another's by now.

        Where the database is away, the next look for orders fails, and all work ends with it.
        """
        seconds = self._acme.settings.acme_lease_seconds
        while True:
            await asyncio.sleep(seconds / 3)
            ids = list(self._at_work)
            if not ids:
                continue
            try:
                async with self._acme.runtime.database.statement() as connection:
                    kept = await orders.extend(connection, self._lease, seconds, ids)
            except Exception as problem:  # noqa: BLE001 - whatever it is: every commit checks the lease
                LOG.warning("leases were not extended", extra={"problem": repr(problem)})
                continue
            for order_id in set(ids) - kept:
                if order_id in self._at_work:
                    self._at_work[order_id].task.cancel()

    async def _give_up(self) -> None:
        tasks = [work.task for work in self._at_work.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Exception):  # the leases run out by themselves
            async with self._acme.runtime.database.statement() as connection:
                await orders.release(connection, self._lease)
