"""What stands on the streams, as an operator of another account reads it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import nats
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from contracts.subjects import inbox
from tests.support.servers import Place


@dataclass(frozen=True)
class Stored:
    """A message of a stream."""

    sequence: int
    subject: str
    headers: dict[str, str]
    data: bytes


@asynccontextmanager
async def nats_client(
    place: Place,
    user: str,
    account: str,
    **options: Any,  # noqa: ANN401 - those of nats-py
) -> AsyncIterator[Client]:
    """Connect to NATS as any user."""
    client = await nats.connect(
        place.nats_url,
        nkeys_seed=str(place.home / "secrets" / f"nats-{user}-{account}.seed"),
        inbox_prefix=inbox(user).encode(),
        **options,
    )
    try:
        yield client
    finally:
        await client.close()


async def stored(place: Place, stream: str) -> list[Stored]:
    """Return all messages of a stream, once its mirror for readers has caught up."""
    async with nats_client(place, "issuer", "streams") as client:
        last = (await client.jetstream().stream_info(stream)).state.last_seq
    found: list[Stored] = []
    async with nats_client(place, "operator", "readers") as client, asyncio.timeout(30):
        jetstream = client.jetstream()
        while (await jetstream.stream_info(stream)).state.last_seq < last:
            await asyncio.sleep(0.02)
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.NONE,
            deliver_subject=client.new_inbox(),
        )
        messages = await client.subscribe(str(config.deliver_subject))
        if last:
            await jetstream.add_consumer(stream, config)
        while len(found) < last:
            message = await messages.next_msg(timeout=10)
            metadata = message.metadata
            found.append(
                Stored(
                    metadata.sequence.stream,
                    message.subject,
                    dict(message.headers or {}),
                    message.data,
                )
            )
    return found
