"""Services in the test's own process, and callers of them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.messages import Call
from shared.broker import Bus, close, connect, nats_broker
from shared.identifiers import uuid7
from shared.runtime import Application
from shared.settings import Settings


def call(seconds: float = 10.0) -> Call:
    """Return the circumstances of a new request."""
    return Call(request_id=str(uuid7()), deadline=time.time() + seconds)


@asynccontextmanager
async def running(application: Application) -> AsyncIterator[Application]:
    """Run a service until the block ends."""
    try:
        await application.start()
        yield application
    finally:
        await application.stop()


@asynccontextmanager
async def bus(settings: Settings, user: str) -> AsyncIterator[Bus]:
    """Lend the bus as seen by a service, or by `cli`."""
    broker = nats_broker(settings, user, "bus")
    await connect(broker)
    try:
        yield Bus(user, broker)
    finally:
        await close(broker)
