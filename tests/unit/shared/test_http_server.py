"""An HTTP server inside an event loop: it listens, serves, and ends when told to."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
import uvloop
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
        routes = [
            Route("/", self.quick),
            Route("/slow", self.slow),
            Route("/large", self.large),
            Route("/who", self.who),
        ]
        self.server = HttpServer(Starlette(routes=routes), listen("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.port}"

    async def quick(self, _request: Request) -> Response:
        return PlainTextResponse("here")

    async def slow(self, _request: Request) -> Response:
        self.asked.set()
        await self.release.wait()
        return PlainTextResponse("at last")

    async def large(self, _request: Request) -> Response:
        self.asked.set()
        return PlainTextResponse("x" * 50_000_000)  # more than sockets hold

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


async def test_an_unfinished_request_does_not_hold_it_up(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(b"GET / HT")
    await asyncio.sleep(0.05)
    async with asyncio.timeout(1):
        await site.server.stop()
    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_does_not_read_does_not_hold_it_up(site: Site) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", site.server.port, limit=1)
    writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    await site.asked.wait()
    async with asyncio.timeout(4):
        await site.server.stop()
    writer.transport.abort()


async def test_who_gives_up_waiting_hears_of_it_and_the_requests_are_finished(site: Site) -> None:
    async with httpx2.AsyncClient(base_url=site.url) as client:
        waiting = asyncio.create_task(client.get("/slow"))
        await site.asked.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await site.server.stop()
        site.release.set()
        assert (await waiting).text == "at last"


async def test_stopping_twice_does_it_once(site: Site) -> None:
    await site.server.stop()
    async with asyncio.timeout(1):
        await site.server.stop()


def test_it_serves_in_the_loop_that_services_run() -> None:
    async def dialogue() -> None:
        site = Site()
        site.server.start()
        async with httpx2.AsyncClient(base_url=site.url) as client:
            assert (await client.get("/")).text == "here"
            await site.server.stop()
            with pytest.raises(httpx2.ConnectError):
                await client.get("/")

    uvloop.run(dialogue())


async def test_connections_made_before_the_start_are_served() -> None:
    site = Site()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    site.server.start()
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()
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


async def test_the_first_to_listen_keeps_the_port() -> None:
    with bind("127.0.0.1", 0) as slow, listen(*slow.getsockname()):
        server = HttpServer(Starlette(), slow)
        with pytest.raises(OSError, match="in use"):
            server.start()
        await server.stop()


def test_a_port_is_taken_again_while_connections_of_before_linger() -> None:
    with listen("127.0.0.1", 0) as first:
        address = first.getsockname()
        with socket.create_connection(address) as client:
            first.setblocking(True)
            first.accept()[0].close()  # who closes first waits (TIME_WAIT)
            assert client.recv(1) == b""
    listen(*address).close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_does_not_wait_for_more_to_send(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Without the protocol's number asyncio leaves Nagle's algorithm on: 40 ms a reply."""
    no_delay = []

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted = transport.get_extra_info("socket")
            no_delay.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    async def accept_one() -> None:
        with listen("127.0.0.1", 0) as listener:
            server = await asyncio.get_running_loop().create_server(Connection, sock=listener)
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            await reader.read()
            writer.close()
            server.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(accept_one())
    assert no_delay == [1]


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_ipv6_addresses_work() -> None:
    try:
        listener = listen("::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        assert listener.family is socket.AF_INET6
