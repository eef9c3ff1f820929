"""The gateway, put together. A reader starts here.

HTTP in: `peer` (connection) → `edge` (every request) → `dialects` (routes) → `exchange` (command).
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI
from starlette.routing import BaseRoute

from contracts.status import GetStatus, StatusReport, status_subject
from contracts.subjects import Service
from services.gateway.credentials import Identities
from services.gateway.dialects.dialect import Dialect
from services.gateway.dialects.fastpki import FASTPKI
from services.gateway.dialects.instance import INSTANCE
from services.gateway.dialects.portlama import PORTLAMA
from services.gateway.dialects.project import PROJECT
from services.gateway.edge import Edge
from services.gateway.exchange import Services
from services.gateway.http_challenges import HttpChallenges
from services.gateway.onboarding import OnboardingState
from services.gateway.peer import PeerProtocol
from services.gateway.public import public_api
from services.gateway.published import TAG, Published
from services.gateway.readiness import Readiness
from services.gateway.routes import API_KEY, BEARER, CERTIFICATE
from services.gateway.settings import GatewaySettings
from services.gateway.tls import Tls
from shared import VERSION, runtime
from shared.broker import Bus, close, connect, nats_broker
from shared.http_server import HttpServer, bind

LOG: Final = logging.getLogger(__name__)

DIALECTS: Final[tuple[Dialect, ...]] = (INSTANCE, PORTLAMA, FASTPKI, PROJECT)
KEEP_ALIVE_SECONDS: Final = 30
"""How long an idle connection stays open."""
ERROR_MEDIA_TYPE: Final = "application/json"
SECURITY_SCHEMES: Final = {
    CERTIFICATE: {"type": "mutualTLS", "description": "A client certificate of the platform"},
    BEARER: {"type": "http", "scheme": "bearer", "description": "An access token"},
    API_KEY: {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
}


class Gateway:
    """The process: two ports and one connection to the bus."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._broker = nats_broker(settings, Service.GATEWAY, "bus")
        self.bus: Final = Bus(Service.GATEWAY, self._broker)
        self.tls: Final = Tls(settings, self.bus)
        self._readiness = Readiness(self.bus, self.tls)
        self._tasks: list[asyncio.Task[None]] = []
        connection = {"http": PeerProtocol, "ws": "none", "timeout_keep_alive": KEEP_ALIVE_SECONDS}
        published = Published(self.bus).routes()
        challenges = HttpChallenges(self.bus).routes()
        self.http: Final = HttpServer(
            Edge(public_api(self.status, [*published, *challenges]), (), settings),
            bind(settings.http_host, settings.http_port),
            **connection,
        )
        self.https: Final = HttpServer(
            Edge(
                Api(DIALECTS, published, settings.api_url),
                DIALECTS,
                settings,
                Services(
                    self.bus,
                    Identities(self.bus),
                    OnboardingState(self.bus),
                    settings.trusted_proxies,
                    settings.order_seconds,
                ),
            ),
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
        self.tls.begin()
        self._tasks.append(asyncio.create_task(self._work()))
        await self.tls.ready.wait()
        self.https.start()
        LOG.info("serving", extra={"https_port": self.https.port, "http_port": self.http.port})

    async def stop(self) -> None:
        """Finish the requests in work and leave."""
        await asyncio.gather(self.https.stop(), self.http.stop())
        await runtime.cancel(self._tasks)
        await close(self._broker)

    async def _work(self) -> None:
        await connect(self._broker)
        await self.bus.serve_own(GetStatus, status_subject(Service.GATEWAY), self.status)
        await self.tls.run()


class Api(FastAPI):
    """All routes of the TLS port, with `GET /openapi.json`.

    FastAPI's own middleware is not in use: `Edge` does what it would do.
    """

    def __init__(
        self,
        dialects: Sequence[Dialect],
        published: Sequence[BaseRoute] = (),
        public_url: str | None = None,
    ) -> None:
        super().__init__(
            title="Certwire",
            version=VERSION,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,  # a redirect's target would come from the Host header
            servers=[{"url": public_url}] if public_url else None,
        )
        for dialect in dialects:
            self.router.routes.extend(dialect.routes)
        self.router.routes.extend(published)

    def openapi(self) -> dict[str, Any]:
        """Return the description as it is true here.

        FastAPI has no word for client certificates, and documents a 422 of its own for dialects
        that answer another status, and refusals in the media type of what was asked for.
        """
        schema = super().openapi()
        schema["components"]["securitySchemes"] = SECURITY_SCHEMES
        schema["components"]["schemas"].pop("HTTPValidationError", None)
        schema["components"]["schemas"].pop("ValidationError", None)
        for operations in schema["paths"].values():
            for operation in operations.values():
                responses = operation["responses"]
                if "HTTPValidationError" in str(responses.get("422")):
                    del responses["422"]
                for status, response in responses.items():
                    if TAG in operation.get("tags", ()):
                        continue  # these say it themselves
                    if status[0] != "2" and "content" in response:
                        (content,) = response["content"].values()
                        response["content"] = {ERROR_MEDIA_TYPE: content}
        return schema


async def build(settings: GatewaySettings) -> Gateway:
    """Return the gateway, its ports taken."""
    return Gateway(settings)


def run(settings: GatewaySettings) -> None:
    """Run the gateway in this process until it is told to stop."""
    runtime.run(lambda: build(settings), Service.GATEWAY, settings)
