"""An HTTP server inside an event loop: it listens, serves, and ends when told to."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shared.http_server import HttpServer, bind, listen


class Site:
    """An application with a page that takes its time."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.release = asyncio.Event()
        routes = [Route("/", self.quick), Route("/slow", self.slow), Route("/who", self.who)]
        self.server = HttpServer(Starlette(routes=routes), listen("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.port}"

    async def quick(self, _request: Request) -> Response:
        return PlainTextResponse("here")

    async def slow(self, _request: Request) -> Response:
        self.asked.set()
        await self.release.wait()
        return PlainTextResponse("at last")

    async def who(self, request: Request) -> Response:
        assert request.client is not None
        return PlainTextResponse(f"{request.client.host} {request.url.scheme}")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.server.start()
    yield site
    await site.server.stop()


async def test_it_serves(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.url) as client:
        response = await client.get("/")
    assert (response.status_code, response.text) == (200, "here")
    assert "server" not in response.headers


async def test_nobody_is_believed_about_who_they_are(site: Site) -> None:
    forged = {"X-Forwarded-For": "10.9.9.9", "X-Forwarded-Proto": "https"}
    async with httpx2.AsyncClient(base_url=site.url, headers=forged) as client:
        assert (await client.get("/who")).text == "127.0.0.1 http"


async def test_a_request_in_work_is_finished(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.url) as client:
        waiting = asyncio.create_task(client.get("/slow"))
        await site.asked.wait()
        stopping = asyncio.create_task(site.server.stop())
        await asyncio.sleep(0.1)
        site.release.set()
        assert (await waiting).text == "at last"
        async with asyncio.timeout(2):
            await stopping


async def test_a_request_without_end_does_not_hold_it_up(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.url) as client:
        waiting = asyncio.create_task(client.get("/slow"))
        await site.asked.wait()
        began = time.monotonic()
        await site.server.stop()
        assert time.monotonic() - began < 4
        site.release.set()
        outcome = (await asyncio.gather(waiting, return_exceptions=True))[0]
        if isinstance(outcome, httpx2.Response):
            assert outcome.status_code >= 500


async def test_an_idle_connection_does_not_hold_it_up(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.url) as client:
        await client.get("/")
        async with asyncio.timeout(1):
            await site.server.stop()


async def test_afterwards_the_port_is_free(site: Site) -> None:
    port = site.server.port
    await site.server.stop()
    again = listen("127.0.0.1", port)
    again.close()


async def test_stopping_before_starting_only_closes() -> None:
    server = Site().server
    port = server.port
    await server.stop()
    listen("127.0.0.1", port).close()


async def test_signals_stay_with_the_service(site: Site) -> None:
    assert site.url
    before = signal.getsignal(signal.SIGTERM)
    async with httpx2.AsyncClient(base_url=site.url) as client:
        await client.get("/")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_taken_port_is_an_error() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", first.getsockname()[1])


async def test_a_bound_port_refuses_connections_until_it_is_served() -> None:
    held = bind("127.0.0.1", 0)
    address = held.getsockname()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    server = HttpServer(Starlette(), held)
    server.start()
    _, writer = await asyncio.open_connection(*address)
    writer.close()
    await server.stop()


def test_a_connection_does_not_wait_for_more_to_send() -> None:
    """Without the protocol's number asyncio leaves Nagle's algorithm on: 40 ms a reply."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_ipv6_addresses_work() -> None:
    try:
        listener = listen("::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        assert listener.family is socket.AF_INET6
