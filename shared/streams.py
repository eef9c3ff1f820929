"""Publishing to JetStream with every acknowledgement awaited, many messages at once."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

ACK_TIMEOUT_SECONDS: Final = 5.0
MESSAGE_ID: Final = "Nats-Msg-Id"
"""The header by which a stream drops what it has taken within the last two minutes."""


class PublishError(Exception):
    """Not everything was acknowledged: publish again, the message ids tell duplicates apart."""


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """What goes to a stream; `message_id` lets the stream drop a second copy."""

    stream: str
    subject: str
    message_id: str
    payload: bytes
    headers: Mapping[str, str]


@dataclass(slots=True)
class Acknowledged:
    """What a stream acknowledged of a batch: its highest sequence, and the lowest that is new.

    `lowest_new` is None where the stream had all of them before.
    """

    highest: int = 0
    lowest_new: int | None = None

    def add(self, sequence: int, *, duplicate: bool) -> None:
        """Take one acknowledgement into account."""
        self.highest = max(self.highest, sequence)
        if not duplicate and (self.lowest_new is None or sequence < self.lowest_new):
            self.lowest_new = sequence


def _publication(message: StreamMessage, reply: str) -> bytes:
    """Return the message as NATS's protocol has it; no header of ours holds a line break."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in message.headers.items()])
    headers = f"NATS/1.0\r\n{lines}{MESSAGE_ID}: {message.message_id}\r\n\r\n".encode()
    size = len(headers) + len(message.payload)
    command = f"HPUB {message.subject} {reply} {len(headers)} {size}\r\n".encode()
    return b"".join((command, headers, message.payload, b"\r\n"))


class StreamPublisher:
    """One inbox for all acknowledgements: no subscription and no future a message."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self._batch = 0
        self._open: dict[str, StreamMessage] = {}
        self._acknowledged: dict[str, Acknowledged] = {}
        self._done: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Subscribe to the acknowledgements."""
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(f"{self._inbox}.*", cb=self._acknowledge)

    async def publish(self, messages: Sequence[StreamMessage]) -> dict[str, Acknowledged]:
        """Publish in order and wait until all are acknowledged; return that by stream.

        Raises `PublishError`.
        """
        if not messages:
            return {}
        if not self._client.is_connected:
            raise PublishError("NATS is away")  # or all of it would wait in a buffer, unseen
        self._batch += 1
        self._open = {f"{self._batch}-{n}": message for n, message in enumerate(messages)}
        self._acknowledged = {message.stream: Acknowledged() for message in messages}
        self._done = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ACK_TIMEOUT_SECONDS):
                await self._send(
                    b"".join(
                        _publication(message, f"{self._inbox}.{token}")
                        for token, message in self._open.items()
                    )
                )
                await self._done
        except (TimeoutError, NatsError, OSError) as error:
            raise PublishError(f"{len(self._open)} messages were not acknowledged") from error
        finally:
            self._done.cancel()
            self._open, self._done = {}, None
        return self._acknowledged

    async def _send(self, commands: bytes) -> None:
        """Send all at once: `Client.publish` costs as much a message as all the rest of it."""
        await self._client._send_command(commands)  # noqa: SLF001 - it has no public form
        await self._client._flush_pending()  # noqa: SLF001 - it has no public form

    async def _acknowledge(self, message: Msg) -> None:
        published = self._open.pop(message.subject.rpartition(".")[2], None)
        if published is None or self._done is None or self._done.done():
            return  # of a batch that was given up
        reply: dict[str, Any] = json.loads(message.data) if message.data else {}
        if "error" in reply or reply.get("stream") != published.stream:
            reason = reply.get("error", "no stream took it")
            self._done.set_exception(PublishError(f"{published.subject}: {reason}"))
            return
        duplicate = bool(reply.get("duplicate"))
        self._acknowledged[published.stream].add(int(reply["seq"]), duplicate=duplicate)
        if not self._open:
            self._done.set_result(None)
