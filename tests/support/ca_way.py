"""A way to an ACME server on which a request stands still where a test says: an HTTPS proxy.

Its own address stands in all that the server says, for pebble goes by the Host header.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.embedded import free_port
from shared.http_server import HttpServer, listen
from tests.support.pebble import LOOPBACK, Pebble, write_identity

PLACES: Final = {
    "account": "/sign-me-up",
    "order": "/order-plz",
    "answer": "/chalZ/",
    "finalize": "/finalize-order/",
    "certificate": "/certZ/",
}
"""Beginnings of pebble's paths, by what a request there does."""
HOP_BY_HOP: Final = {"connection", "content-length", "transfer-encoding", "content-encoding"}
"""Not to be carried on (RFC 9110 section 7.6.1), or another one here."""
SECONDS: Final = 60


class CaWay:
    """A port and a certificate of its own, and what stands still there next."""

    def __init__(self, directory: Path) -> None:
        write_identity(directory)
        self.ca_file: Final = directory / "ca.pem"
        self._directory = directory
        self._port = free_port()
        self._authority: Pebble | None = None
        self._place: str | None = None
        self._after = self._arrives = False
        self._reached = asyncio.Event()
        self._go_on = asyncio.Event()

    def leads_to(self, authority: Pebble) -> str:
        """Lead to a server; return the URL of its directory on this way."""
        self._authority = authority
        path = httpx2.URL(authority.directory_url).path
        return f"https://{LOOPBACK}:{self._port}{path}"

    def hold(self, place: str, *, after: bool, arrives: bool = False) -> None:
        """Let the next request that does this stand still: before it arrives, or its reply.

        One that stood still before it arrived is lost then, unless it `arrives`.
        """
        self._place, self._after, self._arrives = PLACES[place], after, arrives
        self._reached, self._go_on = asyncio.Event(), asyncio.Event()

    async def until_held(self) -> None:
        """Wait until a request stands still."""
        async with asyncio.timeout(SECONDS):
            await self._reached.wait()

    def let_go(self) -> None:
        """Let it go on."""
        self._place = None
        self._go_on.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["CaWay"]:
        """Carry requests until the block ends."""
        assert self._authority is not None
        context = ssl.create_default_context(cafile=str(self._authority.ca_file))
        async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=SECONDS) as http:

            async def carry(request: Request) -> Response:
                return await self._carry(request, http)

            methods = ["GET", "HEAD", "POST"]
            server = HttpServer(
                Starlette(routes=[Route("/{path:path}", carry, methods=methods)]),
                listen(LOOPBACK, self._port),
                ssl_certfile=self._directory / "chain.pem",
                ssl_keyfile=self._directory / "key.pem",
                timeout_graceful_shutdown=1,
            )
            server.start()
            try:
                yield self
            finally:
                self.let_go()
                await server.stop()

    async def _carry(self, request: Request, http: httpx2.AsyncClient) -> Response:
        is_held = self._place is not None and request.url.path.startswith(self._place)
        if is_held:
            self._place = None  # the next one like it goes on
        if is_held and not self._after:
            await self._stand_still()
            if not self._arrives:
                return Response(status_code=502, headers={"Connection": "close"})
        assert self._authority is not None
        reply = await http.request(
            request.method,
            str(httpx2.URL(self._authority.directory_url).join(request.url.path)),
            content=await request.body(),
            headers={k: v for k, v in request.headers.items() if k not in HOP_BY_HOP},
        )
        if is_held and self._after:
            await self._stand_still()
        # Nothing idle is left open when the way is closed.
        response = Response(reply.content, reply.status_code, {"Connection": "close"})
        for name, value in reply.headers.multi_items():
            if name.lower() not in HOP_BY_HOP:
                response.headers.append(name, value)
        return response

    async def _stand_still(self) -> None:
        self._reached.set()
        await self._go_on.wait()
