"""What can go wrong between us and a provider."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http_server import HttpServer, listen
from tests.support.pebble import LOOPBACK

JSON = "application/json"


class Faulty:
    """An application whose next answers are others. `asked` is what was called."""

    def __init__(self, application: ASGIApp) -> None:
        self.own = application
        self.asked: list[tuple[str, str]] = []
        self.planned: list[ASGIApp | None] = []
        """For the next calls, one each; None is the application's own answer."""
        self.always: ASGIApp | None = None
        self.latency_seconds = 0.0
        """The most that a call takes on its way, and again on its way back."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append((scope["method"], scope["path"]))
        fault = self.planned.pop(0) if self.planned else self.always
        await self._travel()
        await (fault or self.own)(scope, receive, self._slow(send))

    def calls(self, method: str) -> int:
        """Return how many calls were made with a method."""
        return sum(asked == method for asked, _ in self.asked)

    async def lost(self, scope: Scope, receive: Receive, _send: Send) -> None:
        """Do what is asked for, and let nobody know of it."""

        async def unheard(_message: Message) -> None:
            return

        await self.own(scope, receive, unheard)
        await Response(status_code=502)(scope, receive, _send)

    def _slow(self, send: Send) -> Send:
        async def slowly(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._travel()
            await send(message)

        return slowly

    async def _travel(self) -> None:
        if self.latency_seconds:
            await asyncio.sleep(random.uniform(0, self.latency_seconds))  # noqa: S311 - a network's mood


def status(code: int, body: str = "", **headers: str) -> Response:
    """Return an answer; underscores in names of headers are hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(body, code, named, media_type=JSON)


def redirect(to: str) -> Response:
    """Return a redirect that keeps method and body."""
    return RedirectResponse(to, 307)


def huge(size: int) -> ASGIApp:
    """Return an answer of so many octets."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        pieces = (b" " * 65_536 for _ in range(0, size, 65_536))
        await StreamingResponse(pieces, media_type=JSON)(scope, receive, send)

    return application


async def hang(_scope: Scope, receive: Receive, _send: Send) -> None:
    """Say nothing for as long as somebody listens."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def drip(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Say something now and then, for almost a second."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(40):
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(application: ASGIApp) -> AsyncIterator[str]:
    """Serve an application on this machine; lend its address."""
    config = {"timeout_graceful_shutdown": 1, "lifespan": "off"}
    server = HttpServer(application, listen(LOOPBACK, 0), **config)
    server.start()
    try:
        yield f"http://{LOOPBACK}:{server.port}"
    finally:
        await server.stop()
