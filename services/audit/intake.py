"""Takes batches from the durable consumer, in the order of the stream.

FastStream's pull subscribers handle a batch concurrently, and nats-py's `fetch` waits until a batch
is full: here a request for messages is always open, and a batch is what has come.
"""

import asyncio
import json
from collections import deque
from time import monotonic
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts.subjects import AUDIT_CONSUMER, AUDIT_STREAM

MOST_OPEN: Final = 1000
"""Messages asked for at the same time; twice a batch, so that one is here while one is written."""
BATCH: Final = 500
LINGER_SECONDS: Final = 0.05
"""How long the first message of a batch waits for company: a commit costs as much as many rows."""
EXPIRES_SECONDS: Final = 30
HEARTBEAT_SECONDS: Final = 1
SILENCE_SECONDS: Final = 3 * HEARTBEAT_SECONDS
"""Without any sign of the server for so long, it has forgotten what was asked for: a restart."""
STATUS: Final = "Status"
HEARTBEAT: Final = "100"
EXPIRED: Final = "408"
_REQUEST: Final = f"$JS.API.CONSUMER.MSG.NEXT.{AUDIT_STREAM}.{AUDIT_CONSUMER}"


class Intake:
    """The pull consumer as an open tap. `start` before, `stop` after."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self._open = 0
        self._messages: deque[Msg] = deque()
        self._arrived = asyncio.Event()
        self._subscription: Subscription | None = None
        self._refused = False
        self._last_sign = 0.0

    async def start(self) -> None:
        """Listen for deliveries."""
        self._inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(self._inbox, cb=self._receive)

    async def stop(self) -> None:
        """Listen no more; what was not acknowledged comes again."""
        if self._subscription is not None and not self._client.is_closed:
            await self._subscription.unsubscribe()

    async def take(self, timeout_seconds: float) -> list[Msg]:
        """Return what has come, at most a batch; nothing where nothing comes in time."""
        if self._refused:  # no consumer at the moment: it was deleted with its stream, say
            self._refused = False
            await asyncio.sleep(timeout_seconds)
        if not self._messages:
            if monotonic() - self._last_sign > SILENCE_SECONDS:
                self._open = 0
            await self._ask()
            self._arrived.clear()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._arrived.wait()
            except TimeoutError:
                return []
            await asyncio.sleep(LINGER_SECONDS)
        batch = [self._messages.popleft() for _ in range(min(BATCH, len(self._messages)))]
        await self._ask()
        return batch

    async def acknowledge(self, messages: list[Msg]) -> None:
        """Tell the stream that the messages need not come again."""
        for message in messages:
            await self._client.publish(message.reply, b"+ACK")

    async def _ask(self) -> None:
        wanted = MOST_OPEN - self._open - len(self._messages)
        if wanted < BATCH:
            return
        self._open += wanted
        self._last_sign = monotonic()
        request = {
            "batch": wanted,
            "expires": EXPIRES_SECONDS * 1_000_000_000,
            "idle_heartbeat": HEARTBEAT_SECONDS * 1_000_000_000,
        }
        await self._client.publish(_REQUEST, json.dumps(request).encode(), reply=self._inbox)

    async def _receive(self, message: Msg) -> None:
        self._last_sign = monotonic()
        if message.reply.startswith("$JS.ACK."):
            self._open = max(self._open - 1, 0)
            self._messages.append(message)
            self._arrived.set()
            return
        status = (message.headers or {}).get(STATUS)
        if status != HEARTBEAT:  # the request has ended: 409 and 503 say that there is no consumer
            self._open = 0
            self._refused = status != EXPIRED
            self._arrived.set()
