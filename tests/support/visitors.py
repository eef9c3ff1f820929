"""Visitors of a web site who never rest, and who count what they are not answered.

Some keep their connection, some come with a new one each time, some ask for what takes long. A
server may close a connection between two requests at any time; a client then asks again on a new
one (RFC 9112 section 9.3.1). Whatever else goes wrong is a dropped request.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from shared.x509 import fingerprint

PAUSE_SECONDS = 0.01
ANSWER_SECONDS = 30
BODY = b"content"
STAYING, COMING_ANEW = 2, 2
SLOW_PATH, SLOW_SECONDS = "/slow", 0.5


class ClosedError(Exception):
    """The connection was closed before a byte of the answer came."""


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    fingerprint: str

    async def ask(self, host: str, path: str) -> bool:
        """Ask and check the answer; return whether the connection stays."""
        try:
            self.writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await self.writer.drain()
            first = await self.reader.readline()
        except ConnectionError as error:
            raise ClosedError from error
        if not first:
            raise ClosedError
        assert first == b"HTTP/1.1 200 OK\r\n", first
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        assert await self.reader.readexactly(len(BODY)) == BODY
        return b"connection: close" not in head

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


@dataclass
class Visitors:
    """What they saw. `answered` is by the fingerprint of the certificate."""

    port: int
    host: str
    trust: ssl.SSLContext
    answered: Counter[str] = field(default_factory=Counter)
    dropped: list[str] = field(default_factory=list)
    asked_again: int = 0
    _over: bool = False

    async def certificate(self) -> str:
        """Return the fingerprint of what a new visitor is shown."""
        connection = await self._connect()
        await connection.close()
        return connection.fingerprint

    async def _connect(self) -> _Connection:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, server_hostname=self.host
        )
        secured = writer.get_extra_info("ssl_object")
        return _Connection(reader, writer, fingerprint(secured.getpeercert(binary_form=True)))

    async def _stays(self) -> None:
        """Visit over one connection, for as long as it is kept."""
        connection: _Connection | None = None
        while not self._over:
            is_new = connection is None
            if connection is None:
                connection = await self._connect()
            try:
                keeps = await connection.ask(self.host, "/")
            except ClosedError:
                assert not is_new, "a new connection was closed"
                self.asked_again += 1
                keeps = False
            else:
                self.answered[connection.fingerprint] += 1
            if not keeps:
                await connection.close()
                connection = None
            await asyncio.sleep(PAUSE_SECONDS)
        if connection is not None:
            await connection.close()

    async def _comes_anew(self, path: str) -> None:
        """Visit over a new connection each time."""
        while not self._over:
            connection = await self._connect()
            await connection.ask(self.host, path)
            self.answered[connection.fingerprint] += 1
            await connection.close()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _counted(self, kind: str) -> None:
        while not self._over:
            try:
                async with asyncio.timeout(ANSWER_SECONDS * 4):
                    if kind == "stays":
                        await self._stays()
                    else:
                        await self._comes_anew(SLOW_PATH if kind == "takes long" else "/")
            except Exception as problem:  # noqa: BLE001 - whatever it is, it was a visitor's
                self.dropped.append(f"{kind}: {problem!r}")
                await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def visiting(port: int, host: str, trust: ssl.SSLContext) -> AsyncIterator[Visitors]:
    """Let visitors come until the block ends."""
    visitors = Visitors(port, host, trust)
    kinds = ["stays"] * STAYING + ["comes anew"] * COMING_ANEW + ["takes long"]
    tasks = [asyncio.create_task(visitors._counted(kind)) for kind in kinds]
    try:
        yield visitors
    finally:
        visitors._over = True
        await asyncio.wait(tasks, timeout=ANSWER_SECONDS)
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def site() -> AsyncIterator[int]:
    """Run what is behind the server that ends TLS; lend its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(f"GET {SLOW_PATH} ".encode()):
            await asyncio.sleep(SLOW_SECONDS)
        head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n"
        writer.write(head.encode() + BODY)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
