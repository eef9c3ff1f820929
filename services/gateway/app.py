"""The gateway, put together. A reader starts here.

HTTP in: `peer` (connection) → `edge` (every request) → `dialects` (routes) → `exchange` (command).
"""

import asyncio
import logging
from typing import Final

from fastapi import FastAPI

from contracts.status import GetStatus, StatusReport, status_subject
from contracts.subjects import Service
from services.gateway.credentials import Identities
from services.gateway.dialects.dialect import Dialect
from services.gateway.dialects.fastpki import FASTPKI
from services.gateway.dialects.instance import INSTANCE
from services.gateway.edge import Edge
from services.gateway.exchange import Services
from services.gateway.peer import PeerProtocol
from services.gateway.public import public_api
from services.gateway.readiness import Readiness
from services.gateway.settings import GatewaySettings
from services.gateway.tls import Tls
from shared import VERSION, runtime
from shared.broker import Bus, close, connect, nats_broker
from shared.http_server import HttpServer, bind

LOG: Final = logging.getLogger(__name__)

DIALECTS: Final[tuple[Dialect, ...]] = (INSTANCE, FASTPKI)


class Gateway:
    """The process: two ports and one connection to the bus."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._broker = nats_broker(settings, Service.GATEWAY, "bus")
        self.bus: Final = Bus(Service.GATEWAY, self._broker)
        self.tls: Final = Tls(settings, self.bus)
        self._readiness = Readiness(self.bus, self.tls)
        self._tasks: list[asyncio.Task[None]] = []
        connection = {"http": PeerProtocol, "ws": "none"}
        self.http: Final = HttpServer(
            Edge(public_api(self.status), (), settings),
            bind(settings.http_host, settings.http_port),
            **connection,
        )
        self.https: Final = HttpServer(
            Edge(api(settings), DIALECTS, settings, Services(self.bus, Identities(self.bus))),
            bind(settings.https_host, settings.https_port),
            ssl_context_factory=lambda *_: self.tls.context,
            **connection,
        )

    async def status(self, _command: GetStatus | None = None) -> StatusReport:
        """Say what is missing, here and in the services behind."""
        return await self._readiness.report()

    async def start(self) -> None:
        """Answer on the public port at once, and on the TLS port once that has a certificate."""
        self.http.start()
        self._tasks.append(asyncio.create_task(self.tls.run()))
        self._tasks.append(asyncio.create_task(self._serve_status()))
        await self.tls.ready.wait()
        self.https.start()
        LOG.info("serving", extra={"https_port": self.https.port, "http_port": self.http.port})

    async def stop(self) -> None:
        """Finish the requests in work and leave."""
        await asyncio.gather(self.https.stop(), self.http.stop())
        await runtime.cancel(self._tasks)
        await close(self._broker)

    async def _serve_status(self) -> None:
        await connect(self._broker)
        await self.bus.serve_status(status_subject(Service.GATEWAY), self.status)


def api(settings: GatewaySettings) -> FastAPI:
    """Return all routes of the TLS port, with `GET /openapi.json`.

    FastAPI's own middleware is left out: `Edge` does what it would do.
    """
    application = FastAPI(
        title="Certwire",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect's target would come from the Host header
        servers=[{"url": settings.public_url}] if settings.public_url else None,
    )
    for dialect in DIALECTS:
        application.router.routes.extend(dialect.routes)
    return application


async def build(settings: GatewaySettings) -> Gateway:
    """Return the gateway, its ports taken."""
    return Gateway(settings)


def run(settings: GatewaySettings) -> None:
    """Run the gateway in this process until it is told to stop."""
    runtime.run(lambda: build(settings), Service.GATEWAY, settings)
