"""Whether the platform can serve: what each of its parts says of itself."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from contracts.errors import CertwireError, ErrorCode
from contracts.status import GetStatus, StatusReport, status_subject
from contracts.subjects import Service
from services.gateway.tls import Tls
from shared import VERSION
from shared.broker import Bus, own_call

NEEDED: Final = (
    Service.ISSUER,
    Service.REGISTRY,
    Service.INSTANCE,
    Service.ACME,
    Service.AUDIT,
)
ANSWER_SECONDS: Final = 1.0
"""A part that takes longer to say how it is counts as missing."""
KEPT_SECONDS: Final = 1.0
"""The public port may be asked by anybody, as often as they like."""


class Readiness:
    """The gateway's report: of itself, and of the services that it needs."""

    def __init__(self, bus: Bus, tls: Tls, needed: Sequence[Service] = NEEDED) -> None:
        self._bus = bus
        self._tls = tls
        self._needed = needed
        self._asking = asyncio.Lock()
        self._report: StatusReport | None = None
        self._asked_at = 0.0

    async def report(self) -> StatusReport:
        """Return a report that is at most a second old."""
        async with self._asking:
            if self._report is None or time.monotonic() - self._asked_at > KEPT_SECONDS:
                self._report = await self._ask()
                self._asked_at = time.monotonic()
            return self._report

    async def _ask(self) -> StatusReport:
        missing = self._tls.problems()
        if self._bus.is_connected:
            for problems in await asyncio.gather(*map(self._problems, self._needed)):
                missing += problems
        else:
            missing.append("nats")
        return StatusReport(
            service=Service.GATEWAY,
            version=VERSION,
            ready=not missing,
            missing=tuple(missing),
            warnings=tuple(self._tls.warnings()),
        )

    async def _problems(self, service: Service) -> list[str]:
        """Return what a service misses, beginning with its name."""
        command = GetStatus(call=own_call(ANSWER_SECONDS))
        try:
            report = await self._bus.request(command, status_subject(service))
        except CertwireError as error:
            silent = error.code is ErrorCode.OUTCOME_UNKNOWN
            return [f"{service}: no answer" if silent else str(service)]
        if report.ready:
            return []
        return [f"{service}: {missing}" for missing in report.missing] or [str(service)]
