"""Lets readers of the log see what was committed before they asked.

1. Every service says where in its chain everything stands that it has committed by now: it answers
   once its relay has given that a place.
2. The collector, of whatever replica, has kept everything up to there.

A service that is down has no say, one that does not answer in time is no longer waited for, and
readers who come while others wait share what those find out, if that began after they came.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from contracts.errors import CertwireError
from contracts.outbox import WITH_OUTBOX, GetOutboxHead, outbox_subject
from contracts.subjects import Service
from services.audit import store
from services.audit.domain.verification import Head
from shared.runtime import Runtime

LOG: Final = logging.getLogger(__name__)

LONGEST_SECONDS: Final = 2.0
"""As long as a reader waits at most (the rulings' number)."""
POLL_SECONDS: Final = 0.02


class Barrier:
    """The barrier of one replica."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._one_at_a_time = asyncio.Lock()
        self._passed = float("-inf")
        """When the last one began that was passed."""

    async def wait(self) -> None:
        """Return once everything is kept that is committed by now, or after 2 seconds."""
        arrived = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_SECONDS), self._one_at_a_time:
                if self._passed < arrived:
                    began = time.monotonic()
                    await self._until_kept(await self._committed())
                    self._passed = began

    async def _committed(self) -> dict[str, int]:  # 1
        heads = await asyncio.gather(*map(self._head, WITH_OUTBOX))
        return {service: head for service, head in zip(WITH_OUTBOX, heads, strict=True) if head}

    async def _head(self, service: Service) -> int:
        command = GetOutboxHead(call=self._runtime.own_call(LONGEST_SECONDS))
        try:
            return (await self._runtime.bus.request(command, outbox_subject(service))).sequence
        except CertwireError as error:
            LOG.info("no outbox head", extra={"of": service, "reason": str(error.code)})
            return 0

    async def _until_kept(self, committed: Mapping[str, int]) -> None:  # 2
        while True:
            async with self._runtime.database.connection() as connection:
                kept = await store.heads(connection, committed)
            if all(kept.get(of, Head()).sequence >= head for of, head in committed.items()):
                return
            await asyncio.sleep(POLL_SECONDS)
