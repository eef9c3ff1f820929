"""Publishing to JetStream with every acknowledgement awaited, many messages at once."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import Header

ACK_TIMEOUT_SECONDS: Final = 5.0


class PublishError(Exception):
    """Not everything was acknowledged: publish again, the message ids tell duplicates apart."""


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """What goes to a stream; `message_id` lets the stream drop a second copy."""

    stream: str
    subject: str
    message_id: str
    payload: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The highest sequence that a stream acknowledged for a batch."""

    stream: str
    sequence: int


class StreamPublisher:
    """One inbox for all acknowledgements: no subscription and no future a message."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self._batch = 0
        self._open: dict[str, StreamMessage] = {}
        self._highest: dict[str, int] = {}
        self._problem: str | None = None
        self._done: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Subscribe to the acknowledgements."""
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(f"{self._inbox}.*", cb=self._acknowledge)

    async def publish(self, messages: Sequence[StreamMessage]) -> list[Acknowledged]:
        """Publish in order and wait until all are acknowledged. Raises `PublishError`."""
        if not messages:
            return []
        self._batch += 1
        self._highest, self._problem = {}, None
        self._open = {f"{self._batch}-{n}": message for n, message in enumerate(messages)}
        self._done = asyncio.get_running_loop().create_future()
        try:
            for token, message in list(self._open.items()):
                await self._client.publish(
                    message.subject,
                    message.payload,
                    reply=f"{self._inbox}.{token}",
                    headers={
                        **message.headers,
                        Header.MSG_ID.value: message.message_id,
                        Header.EXPECTED_STREAM.value: message.stream,
                    },
                )
            async with asyncio.timeout(ACK_TIMEOUT_SECONDS):
                await self._done
        except (TimeoutError, NatsError, OSError) as error:
            raise PublishError(f"{len(self._open)} messages were not acknowledged") from error
        finally:
            self._open, self._done = {}, None
        return [Acknowledged(stream, sequence) for stream, sequence in self._highest.items()]

    async def _acknowledge(self, message: Msg) -> None:
        published = self._open.pop(message.subject.rsplit(".", 1)[-1], None)
        if published is None or self._done is None or self._done.done():
            return
        reply = json.loads(message.data) if message.data else {"error": "no stream took it"}
        if "error" in reply:
            self._done.set_exception(PublishError(f"{published.subject}: {reply['error']}"))
            return
        self._highest[published.stream] = max(
            self._highest.get(published.stream, 0), int(reply["seq"])
        )
        if not self._open:
            self._done.set_result(None)
