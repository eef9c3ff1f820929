"""Publishing in batches: every acknowledgement counted, and none of another batch."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from contracts.subjects import AUDIT_STREAM, EVENTS_STREAM
from shared import streams
from shared.streams import Acknowledged, PublishError, StreamMessage, StreamPublisher
from tests.support.servers import NatsServer, Place, PostgresServer
from tests.support.stored import nats_client, stored


@pytest.fixture
def bare_place(postgres: PostgresServer, nats_server: NatsServer) -> Place:
    """A NATS without a database."""
    return Place(postgres.home, nats_url=nats_server.url)


@pytest.fixture
async def client(bare_place: Place) -> AsyncIterator[Client]:
    async with nats_client(bare_place, "issuer", "streams", reconnect_time_wait=0.1) as client:
        yield client


@pytest.fixture
async def publisher(client: Client) -> StreamPublisher:
    publisher = StreamPublisher(client)
    await publisher.start()
    return publisher


def record(number: int) -> StreamMessage:
    body = json.dumps({"number": number}).encode()
    return StreamMessage(AUDIT_STREAM, "certwire.audit.issuer.test", f"issuer-{number}", body, {})


def event(number: int) -> StreamMessage:
    headers = {"ce-id": f"e{number}", "ce-subject": "näm%C3%A9"}
    return StreamMessage(EVENTS_STREAM, "certwire.events.ca.created", f"e{number}", b"{}", headers)


async def test_a_batch_keeps_its_order_and_tells_what_each_stream_took(
    bare_place: Place, publisher: StreamPublisher
) -> None:
    batch = [message for n in range(300) for message in (record(n), event(n))]
    assert await publisher.publish(batch) == {
        AUDIT_STREAM: Acknowledged(300, 1),
        EVENTS_STREAM: Acknowledged(300, 1),
    }
    records = await stored(bare_place, AUDIT_STREAM)
    assert [json.loads(message.data)["number"] for message in records] == list(range(300))
    events = await stored(bare_place, EVENTS_STREAM)
    assert events[7].headers == {**event(7).headers, "Nats-Msg-Id": "e7"}


async def test_a_second_copy_is_acknowledged_as_such(publisher: StreamPublisher) -> None:
    await publisher.publish([record(1), record(2)])
    assert await publisher.publish([record(2)]) == {AUDIT_STREAM: Acknowledged(2, None)}
    assert await publisher.publish([record(2), record(3)]) == {AUDIT_STREAM: Acknowledged(3, 3)}


async def test_nothing_is_published_quickly(publisher: StreamPublisher) -> None:
    assert await publisher.publish([]) == {}


async def test_another_stream_than_the_one_meant_is_an_error(publisher: StreamPublisher) -> None:
    strayed = StreamMessage(EVENTS_STREAM, "certwire.audit.issuer.test", "1", b"{}", {})
    with pytest.raises(PublishError, match="no stream took it"):
        await publisher.publish([strayed])
    assert await publisher.publish([event(1)]) == {EVENTS_STREAM: Acknowledged(1, 1)}


async def test_what_may_not_be_published_is_not_acknowledged(
    publisher: StreamPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ACK_TIMEOUT_SECONDS", 0.3)
    foreign = StreamMessage(AUDIT_STREAM, "certwire.audit.registry.test", "1", b"{}", {})
    with pytest.raises(PublishError, match="1 messages were not acknowledged"):
        await publisher.publish([record(1), foreign])


async def test_a_full_stream_says_so(publisher: StreamPublisher, bare_place: Place) -> None:
    async with nats_client(bare_place, "provision", "streams") as provision:
        jetstream = provision.jetstream()
        config = (await jetstream.stream_info(AUDIT_STREAM)).config
        config.max_msgs = 2
        await jetstream.update_stream(config)
    with pytest.raises(PublishError, match="maximum messages exceeded"):
        await publisher.publish([record(n) for n in range(5)])


async def test_without_nats_it_fails_at_once_and_buffers_nothing(
    publisher: StreamPublisher, client: Client, nats_server: NatsServer
) -> None:
    nats_server.stop()
    while client.is_connected:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    with pytest.raises(PublishError, match="away"):
        await publisher.publish([record(1)])
    assert time.monotonic() - began < 1
    assert client.pending_data_size == 0


async def test_a_server_that_hangs_is_given_up_and_its_late_word_ignored(
    publisher: StreamPublisher,
    nats_server: NatsServer,
    bare_place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "ACK_TIMEOUT_SECONDS", 0.3)
    assert nats_server.process is not None
    nats_server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(PublishError, match="2 messages were not acknowledged"):
            await publisher.publish([record(1), record(2)])
    finally:
        nats_server.process.send_signal(signal.SIGCONT)
    monkeypatch.setattr(streams, "ACK_TIMEOUT_SECONDS", 10)
    again = await publisher.publish([record(n) for n in range(1, 5)])
    assert again == {AUDIT_STREAM: Acknowledged(4, 3)}
    assert len(await stored(bare_place, AUDIT_STREAM)) == 4


async def test_a_connection_lost_in_the_middle_is_an_error_and_then_forgotten(
    publisher: StreamPublisher,
    client: Client,
    nats_server: NatsServer,
    bare_place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "ACK_TIMEOUT_SECONDS", 1)
    batch = [record(n) for n in range(1000)]
    publishing = asyncio.create_task(publisher.publish(batch))
    await asyncio.sleep(0)
    nats_server.stop()
    with pytest.raises(PublishError):
        await publishing
    await nats_server.start()
    monkeypatch.setattr(streams, "ACK_TIMEOUT_SECONDS", 10)
    async with asyncio.timeout(20):
        while not client.is_connected:
            await asyncio.sleep(0.02)
    await publisher.publish(batch)
    numbers = [json.loads(m.data)["number"] for m in await stored(bare_place, AUDIT_STREAM)]
    assert sorted(numbers) == list(range(1000))
