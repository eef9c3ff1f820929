"""A probe against servers of every kind: it says what is wrong, and nothing of what came back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.acme import http_probe
from services.acme.http_probe import ANSWER_OCTETS, Answer, probe, probing_client
from services.embedded import free_port

TOKEN, EXPECTED, DOMAIN = "t" * 43, "e" * 43, "api.example.com"
SECRET = "what-stands-on-the-inside"
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
Serve = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve on a port; `serve` gets the request's head."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(await reader.readuntil(b"\r\n\r\n"), writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve_one, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def replying(*pieces: bytes) -> Serve:
    async def serve(_head: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return serve


async def asked(serve: Serve) -> Answer:
    async with serving(serve) as port, probing_client() as http:
        return await probe(http, "127.0.0.1", port, DOMAIN, TOKEN, EXPECTED)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_probe, "PROBE_SECONDS", 0.3)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" \t\n"])
async def test_the_answer_is_the_key_authorization_and_blanks_after_it(end: bytes) -> None:
    assert await asked(replying(OK, EXPECTED.encode(), end)) == Answer(connected=True, problem=None)


async def test_it_asks_as_a_ca_does_in_the_domains_name() -> None:
    heads = []

    async def serve(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head.decode())
        writer.write(OK + EXPECTED.encode())

    await asked(serve)
    [head] = heads
    assert head.startswith(f"GET /.well-known/acme-challenge/{TOKEN} HTTP/1.1\r\n")
    assert f"\r\nHost: {DOMAIN}\r\n" in head
    assert "cookie" not in head.lower()


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (OK + b"x" + EXPECTED.encode(), "it answered with something else"),
        (OK + EXPECTED[:-1].encode(), "it answered with something else"),
        (OK, "it answered with something else"),
        (OK + EXPECTED.encode() + b"\n" * ANSWER_OCTETS, None),
        (OK + EXPECTED.encode() + b"x" * ANSWER_OCTETS, "it answered with something else"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n" + SECRET.encode(), "it answered with status 404"),
        (b"HTTP/1.1 500 " + SECRET.encode() + b"\r\n\r\n", "it answered with status 500"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "it answered with status 204"),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://" + SECRET.encode() + b"/\r\n\r\n",
            "it redirects, which this check does not follow, though most CAs do",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n",
            "it redirects, which this check does not follow, though most CAs do",
        ),
        (b"SSH-2.0-" + SECRET.encode() + b"\r\n", "what answered is no HTTP"),
        (b"", "what answered is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "what answered is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nxx", "what answered is no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000, "what answered is no HTTP"),
        (
            OK[:-2] + b"Content-Encoding: gzip\r\n\r\n" + EXPECTED.encode(),
            None,
        ),
    ],
)
async def test_what_is_wrong_is_said_in_words_of_our_own(reply: bytes, problem: str | None) -> None:
    answer = await asked(replying(reply))
    assert answer == Answer(connected=True, problem=problem)
    assert SECRET not in repr(answer)


async def test_it_does_not_go_where_it_is_sent() -> None:
    visited = []

    async def elsewhere(head: bytes, writer: asyncio.StreamWriter) -> None:
        visited.append(head)
        writer.write(OK + EXPECTED.encode())

    async with serving(elsewhere) as port:
        location = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/\r\n\r\n"
        answer = await asked(replying(location.encode()))
    assert (answer.connected, visited) == (True, [])


async def test_it_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert (await asked(replying(OK, EXPECTED.encode()))).problem is None


async def test_who_does_not_listen_refuses() -> None:
    async with probing_client() as http:
        answer = await probe(http, "127.0.0.1", free_port(), DOMAIN, TOKEN, EXPECTED)
    assert answer == Answer(connected=False, problem="connection refused")


async def test_ipv6_addresses_are_asked_too() -> None:
    async with serving(replying(OK, EXPECTED.encode()), "::1") as port, probing_client() as http:
        answer = await probe(http, "::1", port, DOMAIN, TOKEN, EXPECTED)
    assert answer == Answer(connected=True, problem=None)


@pytest.mark.usefixtures("impatient")
async def test_who_is_silent_or_slow_is_given_up() -> None:
    async def silent(_head: bytes, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async def slow(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        while True:
            writer.write(b"e")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def slow_head(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    for serve in (silent, slow, slow_head):
        began = time.monotonic()
        answer = await asked(serve)
        assert answer == Answer(connected=True, problem="no answer within 0.3 s")
        assert time.monotonic() - began < 3


async def test_a_large_answer_is_not_read_to_its_end() -> None:
    sent = 0

    async def serve(_head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK)
        while sent < 100_000_000:
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536

    assert (await asked(serve)).problem == "it answered with something else"
    assert sent < 50_000_000


@settings(max_examples=100)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=100).map(OK.__add__)))
def test_whatever_comes_back_is_a_problem_in_words(reply: bytes) -> None:
    answer = asyncio.run(asked(replying(reply)))
    assert answer.connected
    assert answer.problem is not None
    assert answer.problem.isascii()
    assert answer.problem.isprintable()
