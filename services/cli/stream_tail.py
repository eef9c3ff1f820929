"""Following a stream of the READERS account, through restarts and wiped stores.

1. Connect, and create an ordered consumer: one that needs no acknowledgement, lives in memory and
   delivers to our inbox.
2. Hand on what comes, while its numbers are without a gap; answer flow control in its turn.
3. Whatever goes wrong (a gap, silence, a lost connection) starts again behind the last message. A
   stream that was made anew is read from its start.
"""

import asyncio
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

from services.cli.errors import CliError
from services.cli.operator_access import OperatorAccess

CONNECT_SECONDS: Final = 3
HEARTBEAT_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 3 * HEARTBEAT_SECONDS
RETRY_SECONDS: Final = 1.0
LOOKED_THROUGH: Final = 10_000
"""The newest messages among which the last few are looked for that a person asked for."""


@dataclass(frozen=True)
class Start:
    """Where to begin: at a time, a sequence of the stream, or so many messages before its end."""

    time: datetime | None = None
    sequence: int | None = None
    last: int = 0


@dataclass(frozen=True)
class Delivered:
    """A message of the stream; `sequence` is the stream's own."""

    subject: str
    sequence: int
    headers: dict[str, str]
    payload: bytes


class CaughtUp:
    """Stands between what was there already and what comes live."""


class _Interrupted(Exception):  # noqa: N818 - not an error: it begins again
    """The consumer is of no more use."""


def _say(text: str) -> None:
    print(f"certwire: {text}", file=sys.stderr, flush=True)


class StreamTail:
    """A stream as one endless sequence of messages.

    A subscriber may have no `consumer` but the one of its own name. `connected` hears of each
    connection, and of its end.
    """

    def __init__(
        self,
        access: OperatorAccess,
        stream: str,
        filter_subject: str | None,
        *,
        consumer: str | None = None,
        say: Callable[[str], None] = _say,
        connected: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._access = access
        self._stream = stream
        self._filter_subject = filter_subject
        self._consumer = consumer
        self._say = say
        self._connected = connected
        self._created: object = None
        self._last = 0
        self._caught_up = False
        self.made_anew = False
        """Whether what comes may have come before: a wiped stream is filled again."""
        self._current: _Session | None = None
        self._problem = ""

    async def follow(self, start: Start) -> AsyncGenerator[Delivered | CaughtUp, None]:
        """Yield all messages from `start`, and `CaughtUp` once. Raises `CliError` at the start."""
        connected_once, interrupted = False, False
        while True:
            try:
                async with self._connection() as client:
                    session = await self._session(client, start)
                    if interrupted:
                        self._say("connected again")
                    connected_once, interrupted = True, False
                    self._connected(True)
                    async for item in session.items():
                        if isinstance(item, Delivered):
                            self._last = item.sequence
                        elif self._caught_up:
                            continue
                        else:
                            self._caught_up = True
                        yield item
            except (NatsError, JetStreamError, OSError, TimeoutError, _Interrupted) as problem:
                if not connected_once:
                    raise CliError(self._explain(problem)) from problem
                if not interrupted:
                    self._connected(False)
                    reason = str(problem) or repr(problem)
                    self._say(f"the stream is interrupted ({reason}); waiting")
                interrupted = True
            if self._last:
                start = Start(sequence=self._last + 1)
            await asyncio.sleep(RETRY_SECONDS)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Client]:
        async def note(problem: Exception) -> None:
            self._problem = str(problem)

        ca_file = self._access.ca_file
        client = Client()
        try:
            await client.connect(
                self._access.url,
                name="certwire-tail",
                nkeys_seed=str(self._access.seed_file),
                inbox_prefix=self._access.inbox_prefix.encode(),
                tls=ssl.create_default_context(cafile=ca_file) if ca_file else None,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_SECONDS,
                error_cb=note,
                closed_cb=self._closed,
            )
            yield client
        finally:
            await client.close()

    async def _closed(self) -> None:
        if self._current is not None:
            await self._current.receive(None)

    async def _session(self, client: Client, start: Start) -> "_Session":
        """Return the deliveries of a new consumer."""
        jetstream = client.jetstream()
        info = await jetstream.stream_info(self._stream)
        if self._created not in (None, info.created):
            self._say(f"the stream {self._stream} was made anew; it is read from its start")
            start = Start(sequence=1)
            self.made_anew = True
        self._created = info.created
        session = self._current = _Session(client, end=info.state.last_seq)
        inbox = client.new_inbox()
        await client.subscribe(inbox, cb=session.receive)
        if self._consumer is not None:
            with suppress(NotFoundError):  # one of an earlier connection delivers elsewhere
                await jetstream.delete_consumer(self._stream, self._consumer)
        config = ConsumerConfig(
            name=self._consumer,
            deliver_subject=inbox,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=start.sequence or max(info.state.last_seq - start.last, 0) + 1,
            ack_policy=AckPolicy.NONE,
            max_deliver=1,
            filter_subject=self._filter_subject,
            idle_heartbeat=HEARTBEAT_SECONDS,
            flow_control=True,
            mem_storage=True,
            num_replicas=1,
        )
        if start.time is not None:
            config = replace(
                config,
                deliver_policy=DeliverPolicy.BY_START_TIME,
                opt_start_seq=None,
                opt_start_time=start.time,
            )
        consumer = await jetstream.add_consumer(self._stream, config)
        session.caught_up = not consumer.num_pending
        return session

    def _explain(self, problem: Exception) -> str:
        text = str(problem)
        if "Authorization" in self._problem + text:
            return f"NATS at {self._access.url} does not know the key {self._access.seed_file}"
        if isinstance(problem, JetStreamError):
            return f"the stream {self._stream} can't be read: {text}"
        return f"NATS does not answer at {self._access.url}: is it running?"


class _Session:
    """What one consumer delivers."""

    def __init__(self, client: Client, end: int) -> None:
        self._client = client
        self._end = end
        self._messages: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._number = 0
        self.caught_up = False

    async def receive(self, message: Msg | None) -> None:
        """Take a delivery; None says that the connection is closed."""
        await self._messages.put(message)

    async def items(self) -> AsyncIterator[Delivered | CaughtUp]:
        """Yield messages as long as none is missing. Raises `_Interrupted`."""
        if self.caught_up:
            yield CaughtUp()
        while True:
            message = await self._next()
            if not message.reply.startswith("$JS.ACK."):
                await self._answer(message)
                continue
            metadata = message.metadata
            self._number += 1
            if metadata.sequence.consumer != self._number:
                raise _Interrupted("a message is missing")
            sequence = metadata.sequence.stream
            yield Delivered(message.subject, sequence, message.headers or {}, message.data)
            if not self.caught_up and (not metadata.num_pending or sequence >= self._end):
                self.caught_up = True
                yield CaughtUp()

    async def _next(self) -> Msg:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                message = await self._messages.get()
        except TimeoutError:
            raise _Interrupted("nothing is heard any more") from None
        if message is None:
            raise _Interrupted("the connection is closed")
        return message

    async def _answer(self, status: Msg) -> None:
        """Answer flow control, and compare what a heartbeat says was sent with what came."""
        headers = status.headers or {}
        for reply in (status.reply, headers.get("Nats-Consumer-Stalled", "")):
            if reply:
                await self._client.publish(reply)
        sent = headers.get("Nats-Last-Consumer")
        if sent is not None and int(sent) != self._number:
            raise _Interrupted("a message is missing")
