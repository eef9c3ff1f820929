"""The outbox's way to the streams: nothing lost, nothing twice in the chain, whatever breaks."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from nats.aio.client import Client

from contracts.audit import GENESIS_HASH, Actor, AuditObject, record_hash
from contracts.events import InstanceStarted
from contracts.instance import InstanceStatus
from contracts.subjects import AUDIT_STREAM, EVENTS_STREAM, Service
from shared import relay as relay_module
from shared.broker import close, connect, nats_broker
from shared.database import Database
from shared.identifiers import uuid7
from shared.outbox import Backlog, OutboxRow, append, outbox_row
from shared.relay import Relay
from shared.settings import Settings
from shared.streams import PublishError
from tests.support.servers import NatsServer, Place, PostgresServer
from tests.support.stored import Stored, stored

SERVICE = Service.INSTANCE
ACTOR = Actor(kind="admin", id="admin", name="Zoë")


def row(*, event: bool = True, action: str = "instance_start") -> OutboxRow:
    instance_id = uuid7()
    started = InstanceStarted(instance_id=instance_id, name="web 1", status=InstanceStatus.RUNNING)
    return outbox_row(
        SERVICE,
        "request-1",
        ACTOR,
        action,
        AuditObject(type="instance", id=str(instance_id), name="web 1"),
        detail={"from": "10.0.0.1", "count": 3},
        event=started if event else None,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


async def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until the condition holds; it may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, "it did not become so"
        await asyncio.sleep(0.02)


@dataclass
class Replica:
    """One process of a service, as far as its relay goes."""

    place: Place
    database: Database
    client: Client
    relay: Relay
    backlog: Backlog
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def put(self, count: int = 1, *, event: bool = True) -> None:
        async with self.database.transaction() as connection:
            await append(connection, [row(event=event) for _ in range(count)])
        self.backlog.nudge()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self.relay.run())]

    async def kill(self) -> None:
        """End the relay wherever it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def head(self) -> asyncpg.Record:
        async with self.database.connection() as connection:
            head = await connection.fetchrow(
                "SELECT *, (SELECT count(*) FROM outbox) AS rows FROM relay"
            )
            assert head is not None
            return head

    async def all_published(self) -> bool:
        async with self.database.connection() as connection:
            return bool(
                await connection.fetchval(
                    "SELECT published = sequence AND NOT EXISTS"
                    " (SELECT FROM outbox WHERE sequence IS NULL) FROM relay"
                )
            )

    async def ids(self) -> list[str]:
        async with self.database.connection() as connection:
            rows = await connection.fetch("SELECT entry FROM outbox ORDER BY sequence")
            return [json.loads(row["entry"])["id"] for row in rows]


@asynccontextmanager
async def replica(place: Place, service: Service = SERVICE) -> AsyncIterator[Replica]:
    settings = place.settings(Settings)
    database = await Database.open(settings, service)
    broker = nats_broker(settings, service, "streams")
    client = await connect(broker)
    backlog = Backlog(1000)
    one = Replica(place, database, client, Relay(service, database, client, backlog), backlog)
    try:
        yield one
    finally:
        await one.kill()
        await close(broker)
        await database.close()


@pytest.fixture
async def one(bus_place: Place) -> AsyncIterator[Replica]:
    async with replica(bus_place) as one:
        yield one


def verified(messages: list[Stored], service: Service = SERVICE) -> list[dict[str, Any]]:
    """Return a service's records in the order of the chain, each once, the chain verified."""
    records: dict[int, dict[str, Any]] = {}
    for message in messages:
        record = json.loads(message.data)
        if record["service"] == service:
            assert records.setdefault(record["sequence"], record) == record, "re-sequenced"
    ordered = [records[sequence] for sequence in sorted(records)]
    previous = GENESIS_HASH
    for sequence, record in enumerate(ordered, start=1):
        assert record["sequence"] == sequence
        assert record["previous_hash"] == previous
        assert record["hash"] == record_hash(record)
        previous = record["hash"]
    return ordered


async def check(one: Replica) -> Counter[str]:
    """Verify that every row is on both streams; return how often each event is."""
    ids = await one.ids()
    records = verified(await stored(one.place, AUDIT_STREAM))
    assert [record["id"] for record in records] == ids
    events = Counter(message.headers["ce-id"] for message in await stored(one.place, EVENTS_STREAM))
    assert set(events) == set(ids)
    return events


async def test_the_chain_is_gapless_under_concurrent_writers(one: Replica) -> None:
    async def write(number: int) -> None:
        async with one.database.transaction() as connection:
            await append(connection, [row() for _ in range(number % 4 + 1)])
            await asyncio.sleep(number % 3 / 100)  # so that positions commit out of order
            if number % 7 == 0:
                raise asyncpg.PostgresError("rolled back")

    one.start()
    await asyncio.gather(*(write(number) for number in range(60)), return_exceptions=True)
    await until(one.all_published)
    events = await check(one)
    assert set(events.values()) == {1}


async def test_event_and_record_are_on_their_streams_in_their_forms(one: Replica) -> None:
    await one.put()
    one.start()
    await until(one.all_published)
    (record,), (event,) = [await stored(one.place, s) for s in (AUDIT_STREAM, EVENTS_STREAM)]
    body = json.loads(record.data)
    assert record.subject == "certwire.audit.instance.instance_start"
    assert record.headers == {"Nats-Msg-Id": "instance-1"}
    assert body["actor"] == ACTOR.model_dump()
    assert body["detail"] == {"from": "10.0.0.1", "count": 3}
    assert event.subject == "certwire.events.instance.started"
    assert event.headers == {
        "ce-specversion": "1.0",
        "ce-id": body["id"],
        "ce-source": "/certwire/instance",
        "ce-type": "certwire.instance.started",
        "ce-subject": body["object"]["id"],
        "ce-time": body["time"],
        "ce-requestid": "request-1",
        "ce-traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "content-type": "application/json",
        "Nats-Msg-Id": body["id"],
    }
    assert InstanceStarted.model_validate_json(event.data).name == "web 1"


async def test_a_record_without_an_event_is_a_record_alone(one: Replica) -> None:
    await one.put(3, event=False)
    one.start()
    await until(one.all_published)
    assert len(verified(await stored(one.place, AUDIT_STREAM))) == 3
    assert await stored(one.place, EVENTS_STREAM) == []


async def test_what_another_replica_wrote_is_published_without_a_nudge(one: Replica) -> None:
    one.start()
    async with one.database.transaction() as connection:
        await append(connection, [row()])
    await until(one.all_published, 5)


async def test_killed_between_chain_and_publication_it_goes_on_where_it_was(
    one: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise asyncio.CancelledError  # the process is gone

    with monkeypatch.context() as patch:
        patch.setattr(one.relay, "_publish", fail)
        await one.put(5)
        one.start()
        await until(one._tasks[0].done)
    head = await one.head()
    assert (head["sequence"], head["published"]) == (5, 0)
    before = await one.ids()
    await one.put(5)
    one.start()
    await until(one.all_published)
    assert (await one.ids())[:5] == before
    assert set((await check(one)).values()) == {1}


async def test_killed_between_publication_and_cursor_nothing_is_on_the_stream_twice(
    one: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = one.relay._publisher.publish

    async def published_but_forgotten(messages: Any) -> None:  # noqa: ANN401 - handed on
        await publish(messages)
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(one.relay._publisher, "publish", published_but_forgotten)
        await one.put(5)
        one.start()
        await until(one._tasks[0].done)
    assert (await one.head())["published"] == 0
    one.start()
    await until(one.all_published)
    assert set((await check(one)).values()) == {1}
    assert len(await stored(one.place, AUDIT_STREAM)) == 5


async def test_of_two_relays_one_works_and_the_other_takes_over(bus_place: Place) -> None:
    async with replica(bus_place) as first, replica(bus_place) as second:
        first.start()
        await first.put()
        await until(first.all_published)
        second.start()
        for _ in range(20):
            await asyncio.gather(first.put(), second.put())
        await until(first.all_published)
        assert second.relay._created == {}  # it never got to a stream
        await first.kill()
        await second.put()
        await until(second.all_published)
        assert second.relay._created != {}
        assert set((await check(second)).values()) == {1}


async def test_each_service_has_a_chain_of_its_own(bus_place: Place) -> None:
    async with replica(bus_place) as one, replica(bus_place, Service.REGISTRY) as other:
        one.start()
        other.start()
        await one.put(2)
        async with other.database.transaction() as connection:
            await append(
                connection,
                [
                    outbox_row(
                        Service.REGISTRY,
                        "r",
                        ACTOR,
                        "login_success",
                        AuditObject(type="user", id="1", name="ann"),
                    )
                ],
            )
        await until(one.all_published)
        await until(other.all_published)
        messages = await stored(bus_place, AUDIT_STREAM)
        assert len(verified(messages, SERVICE)) == 2
        assert len(verified(messages, Service.REGISTRY)) == 1


async def test_it_waits_for_nats_and_goes_on(one: Replica, nats_server: NatsServer) -> None:
    one.start()
    await one.put(3)
    await until(one.all_published)
    nats_server.stop()
    await one.put(3)
    await asyncio.sleep(0.5)
    assert (await one.head())["published"] == 3
    await nats_server.start()
    await until(one.all_published)
    assert set((await check(one)).values()) == {1}
    assert (await one.head())["reached"] == 6


async def test_it_outlives_postgres(one: Replica, postgres: PostgresServer) -> None:
    one.start()
    await one.put(3)
    await until(one.all_published)
    try:
        postgres.stop()
        await asyncio.sleep(0.3)
    finally:
        postgres.start()
    await one.put(3)
    await until(one.all_published)
    assert set((await check(one)).values()) == {1}


async def test_a_store_wiped_while_writing_gets_everything_again(
    one: Replica, nats_server: NatsServer
) -> None:
    async def write() -> None:
        while not stop.is_set():
            await one.put(3)
            await asyncio.sleep(0.01)

    stop = asyncio.Event()
    writing = asyncio.create_task(write())
    one.start()
    await until(lambda: reached(one, 50))
    nats_server.stop()
    nats_server.wipe()
    await asyncio.sleep(0.3)
    await nats_server.start()
    before = (await one.head())["sequence"]
    await until(lambda: reached(one, before + 50))
    stop.set()
    await writing
    await until(one.all_published)
    await check(one)


async def reached(one: Replica, count: int) -> bool:
    return bool((await one.head())["reached"] >= count)


async def test_a_younger_stream_of_the_same_name_gets_everything_again(
    one: Replica, nats_server: NatsServer
) -> None:
    one.start()
    await one.put(5)
    await until(one.all_published)
    await one.kill()
    nats_server.stop()
    nats_server.wipe()
    await nats_server.start()
    await until(lambda: one.client.is_connected)
    # Others have filled it beyond the number that was acknowledged to us.
    async with replica(one.place, Service.REGISTRY) as other:
        other.start()
        async with other.database.transaction() as connection:
            record = outbox_row(
                Service.REGISTRY, "r", ACTOR, "x", AuditObject(type="t", id="i", name="n")
            )
            await append(connection, [record] * 20)
        await until(other.all_published)
    one.start()
    await one.put(1)
    await until(one.all_published)
    assert set((await check(one)).values()) == {1}


async def test_a_stream_that_lost_its_end_gets_everything_again(
    one: Replica, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut: the same stream, but without its last two minutes."""
    monkeypatch.setattr(relay_module, "INSPECT_SECONDS", 1e9)  # only after the reconnection
    one.start()
    await one.put(5)
    await until(one.all_published)
    nats_server.stop()
    kept = nats_server.save()
    await nats_server.start()
    await one.put(5)
    await until(one.all_published)
    nats_server.stop()
    nats_server.restore(kept)
    await nats_server.start()
    await one.put(1)
    await until(one.all_published)
    await check(one)


async def test_a_loss_that_no_inspection_saw_shows_in_the_acknowledgements(
    one: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.start()
    await one.put(1)
    await until(one.all_published)
    await one.kill()
    async with one.database.transaction() as connection:
        streams = json.loads(await connection.fetchval("SELECT streams FROM relay"))
        streams[AUDIT_STREAM]["sequence"] = 2
        await connection.execute("UPDATE relay SET streams = $1", json.dumps(streams))
    rewinds = relay_module.REWINDS._value.get()

    monkeypatch.setattr(one.relay, "_is_due_to_inspect", lambda: False)
    one.start()
    await one.put(1)
    await until(one.all_published)
    assert relay_module.REWINDS._value.get() == rewinds + 1
    assert set((await check(one)).values()) == {1}


async def test_publishing_again_does_not_count_as_a_backlog(one: Replica) -> None:
    await one.put(5)
    one.start()
    await until(one.all_published)
    await one.kill()
    async with one.database.transaction() as connection:
        await connection.execute("UPDATE relay SET published = 0, streams = '{}'")
    await one.put(2)
    watching = asyncio.create_task(one.relay.watch_backlog())
    await until(lambda: one.backlog.waiting)
    watching.cancel()
    assert one.backlog.waiting == 2
    assert relay_module.WAITING._value.get() == 7


async def test_pruning_keeps_what_is_young_and_what_is_not_published(
    one: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "PRUNE_BATCH", 3)
    monkeypatch.setattr(relay_module, "IDLE_SECONDS", 0.01)
    await one.put(10)
    one.start()
    await until(one.all_published)
    await one.kill()
    await one.put(4)
    async with one.database.transaction() as connection:
        await connection.execute(
            "UPDATE outbox SET created_at = now() - interval '9 days'"
            " WHERE sequence <= 8 OR sequence IS NULL"
        )

    async def fail(*_: object) -> None:
        raise PublishError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(one.relay._publisher, "publish", fail)
        one.start()
        await asyncio.sleep(0.3)
        await one.kill()
    assert (await one.head())["rows"] == 14  # nothing is deleted while nothing goes out
    one.relay._prune_at = relay_module.NEVER  # as in a new process
    one.start()
    await until(one.all_published)
    await until(lambda: rows_left(one, 6))


async def rows_left(one: Replica, count: int) -> bool:
    return bool((await one.head())["rows"] == count)


async def test_after_pruning_a_wiped_store_gets_what_is_kept(
    one: Replica, nats_server: NatsServer
) -> None:
    await one.put(6)
    one.start()
    await until(one.all_published)
    async with one.database.transaction() as connection:
        await connection.execute("DELETE FROM outbox WHERE sequence <= 4")
    nats_server.stop()
    nats_server.wipe()
    await nats_server.start()
    await until(lambda: published(one, 5), 15)
    records = [json.loads(m.data) for m in await stored(one.place, AUDIT_STREAM)]
    assert [record["sequence"] for record in records] == [5, 6]


async def published(one: Replica, least: int) -> bool:
    head = await one.head()
    return bool(head["published"] == head["sequence"] >= least and len(await audit(one)) == 2)


async def audit(one: Replica) -> list[Stored]:
    return await stored(one.place, AUDIT_STREAM)
