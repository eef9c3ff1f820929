"""A way to the gateway that loses requests and replies: a TCP proxy.

It sees what TLS lets it see. A client's first record of application data ends its handshake, and a
gateway without session tickets says nothing after that but the reply: whoever answers has worked.
"""

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from tests.support.client import LOOPBACK

APPLICATION_DATA = 23
"""RFC 8446 section 5.1: the content type of a record."""
HEADER = 5
CHUNK = 65_536


class Loss(enum.Enum):
    """What becomes of a call."""

    NOTHING = enum.auto()
    REQUEST = enum.auto()
    """It does not arrive."""
    REPLY = enum.auto()
    """It is answered, and the caller hears nothing of that."""
    HALF_OF_THE_REPLY = enum.auto()
    DELAY = enum.auto()
    """It is answered, and the caller waits."""


@dataclass
class Way:
    """Where it leads, and what it loses next."""

    port: int = 0
    losses: list[Loss] = field(default_factory=list)
    """Of the next calls; after them it is `otherwise` that decides."""
    otherwise: Callable[[], Loss] = lambda: Loss.NOTHING
    lost: list[Loss] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return what stands for the platform's own."""
        return f"https://localhost:{self.port}"

    async def carry(
        self, to: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection, and lose what is to be lost of it."""
        loss = self.losses.pop(0) if self.losses else self.otherwise()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(writer.close)
            if loss is Loss.REQUEST:
                self.lost.append(loss)
                return
            with contextlib.suppress(OSError):  # either end may be gone
                there, back = await asyncio.open_connection(LOOPBACK, to)
                stack.callback(back.close)
                asked = asyncio.Event()
                asking = asyncio.create_task(_ask(reader, back, asked))
                stack.callback(asking.cancel)
                await self._answer(there, writer, asked, loss)

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        asked: asyncio.Event,
        loss: Loss,
    ) -> None:
        while data := await reader.read(CHUNK):
            if asked.is_set() and loss is not Loss.NOTHING:
                self.lost.append(loss)
                if loss is Loss.HALF_OF_THE_REPLY:
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                elif loss is Loss.DELAY:
                    await asyncio.Event().wait()
                return
            writer.write(data)
            await writer.drain()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Event
) -> None:
    """Carry what the client says, record by record; note when its handshake is over."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            header = await reader.readexactly(HEADER)
            record = await reader.readexactly(int.from_bytes(header[3:]))
            if header[0] == APPLICATION_DATA:
                asked.set()
            writer.write(header + record)
            await writer.drain()


@contextlib.asynccontextmanager
async def lossy(to: int) -> AsyncIterator[Way]:
    """Lend a way to a local port."""
    way = Way()
    carried: set[asyncio.Task[None]] = set()

    def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(way.carry(to, reader, writer))
        carried.add(task)
        task.add_done_callback(carried.discard)

    server = await asyncio.start_server(carry, LOOPBACK)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        for task in carried:
            task.cancel()
        await asyncio.gather(*carried, return_exceptions=True)
