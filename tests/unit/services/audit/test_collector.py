"""The audit service on a real stream: everything once, in order, or loudly not at all."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from contracts.subjects import AUDIT_CHECKPOINT, Service
from services.audit.app import build
from services.audit.domain.verification import Arrival
from services.audit.intake import Intake
from services.audit.settings import AuditSettings
from shared.runtime import Application
from tests.support.audit import Chain, altered, arrival, publish, streams_client
from tests.support.registry import Tables
from tests.support.running import running
from tests.support.servers import NatsServer, Place, PostgresServer

KEPT = "SELECT service || '#' || sequence FROM audit.record ORDER BY position"


@asynccontextmanager
async def auditing(place: Place, reread_seconds: float = 60.0) -> AsyncIterator[Application]:
    settings = place.settings(AuditSettings, audit_reread_seconds=reread_seconds)
    async with running(await build(settings)) as application:
        yield application


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    for _ in range(int(seconds / 0.05)):
        if await condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"it did not become so within {seconds} s")


async def kept(tables: Tables, names: list[str]) -> None:
    """Wait until exactly these records are kept, in this order."""

    async def so() -> bool:
        return await tables.values(KEPT) == names

    try:
        await until(so)
    except pytest.fail.Exception:
        assert await tables.values(KEPT) == names
        raise


def named(count: int, service: str = "issuer") -> list[str]:
    return [f"{service}#{number}" for number in range(1, count + 1)]


async def acknowledged(place: Place) -> None:
    async with streams_client(place, "audit") as client:
        jetstream = client.jetstream()

        async def so() -> bool:
            info = await jetstream.consumer_info("AUDIT", "audit")
            return not info.num_ack_pending and not info.num_pending

        await until(so)


async def test_everything_is_kept_once_in_order_and_acknowledged(
    bus_place: Place, tables: Tables
) -> None:
    chain = Chain()
    async with auditing(bus_place) as application:
        await publish(bus_place, chain.take(300))
        await kept(tables, named(300))
        await acknowledged(bus_place)
        assert (await application.status()).warnings == ()
    texts = await tables.values("SELECT record FROM audit.record ORDER BY position")
    assert [json.loads(text) for text in texts] == chain.made


async def test_chains_of_several_services_stand_beside_each_other(
    bus_place: Place, tables: Tables
) -> None:
    async with auditing(bus_place):
        for service in (Service.ISSUER, Service.REGISTRY, Service.INSTANCE):
            await publish(bus_place, Chain(service).take(2), service)
        await kept(tables, named(2) + named(2, "registry") + named(2, "instance"))


async def test_what_was_published_before_the_start_is_kept(
    bus_place: Place, tables: Tables
) -> None:
    chain = Chain()
    await publish(bus_place, chain.take(3))
    async with auditing(bus_place):
        await kept(tables, named(3))
    await publish(bus_place, chain.take(2))
    async with auditing(bus_place):
        await kept(tables, named(5))


async def test_a_second_copy_changes_nothing(bus_place: Place, tables: Tables) -> None:
    arrivals = Chain().take(3)
    async with auditing(bus_place) as application:
        await publish(bus_place, [*arrivals, *arrivals])
        await publish(bus_place, arrivals)
        await kept(tables, named(3))
        await acknowledged(bus_place)
        assert (await application.status()).warnings == ()
        assert await tables.values("SELECT 1 FROM audit.violation") == []


async def test_what_was_kept_but_not_acknowledged_comes_again(
    bus_place: Place, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after kill -9 between the commit and the acknowledgement."""
    chain = Chain()
    with monkeypatch.context() as patch:

        async def dies(_intake: Intake, _messages: list[object]) -> None:
            await asyncio.Event().wait()

        patch.setattr(Intake, "acknowledge", dies)
        async with auditing(bus_place):
            await publish(bus_place, chain.take(3))
            await kept(tables, named(3))
    async with auditing(bus_place):
        await publish(bus_place, chain.take(2))
        await kept(tables, named(5))
        await acknowledged(bus_place)


async def test_a_gap_waits_and_is_said(bus_place: Place, tables: Tables) -> None:
    one, two, three, four = Chain().take(4)
    async with auditing(bus_place) as application:
        await publish(bus_place, [one, three, four])
        await kept(tables, named(1))

        async def said() -> bool:
            warnings = (await application.status()).warnings
            return any("issuer#2 is missing; 2 later ones wait" in text for text in warnings)

        await until(said)
        await publish(bus_place, Chain(Service.REGISTRY).take(1), "registry")
        await kept(tables, ["issuer#1", "registry#1"])
        await acknowledged(bus_place)
        await publish(bus_place, [two])
        await kept(tables, ["issuer#1", "registry#1", "issuer#2", "issuer#3", "issuer#4"])
        assert (await application.status()).warnings == ()
    assert await tables.values("SELECT 1 FROM audit.early") == []


async def test_a_gap_outlives_a_restart(bus_place: Place, tables: Tables) -> None:
    one, two, three = Chain().take(3)
    async with auditing(bus_place):
        await publish(bus_place, [one, three])
        await kept(tables, named(1))
        await acknowledged(bus_place)
    async with auditing(bus_place) as application:
        assert any("issuer#2" in text for text in (await application.status()).warnings)
        await publish(bus_place, [two])
        await kept(tables, named(3))


async def test_a_record_that_does_not_verify_is_quarantined_and_never_passes(
    bus_place: Place, tables: Tables
) -> None:
    chain = Chain()
    one, two = chain.take(2)
    forged = arrival(altered(chain.made[1], detail={"altered": True}))
    async with auditing(bus_place) as application:
        await publish(bus_place, [one, forged, forged])

        async def said() -> bool:
            warnings = (await application.status()).warnings
            return any("1 audit messages were not believed" in text for text in warnings)

        await until(said)
        await acknowledged(bus_place)
        (row,) = await tables.run("SELECT * FROM audit.violation")
        assert (row["reason"], row["service"], row["sequence"]) == ("wrong_hash", "issuer", 2)
        assert row["payload"] == forged.payload
        # The finding is an audit record itself.
        await kept(tables, ["issuer#1", "audit#1"])
        (text,) = await tables.values("SELECT record FROM audit.record WHERE service = 'audit'")
        assert json.loads(text)["action"] == "record_quarantine"
        assert json.loads(text)["object"]["id"] == "issuer#2"
        # Its place is left to the true record.
        await publish(bus_place, [two])
        await kept(tables, ["issuer#1", "audit#1", "issuer#2"])


async def test_an_early_record_that_does_not_link_is_found_out_later(
    bus_place: Place, tables: Tables
) -> None:
    chain, other = Chain(), Chain()
    (_, _, three), (_, _, foreign) = chain.take(3), other.take(3)
    async with auditing(bus_place):
        await publish(bus_place, [foreign])
        await publish(bus_place, [arrival(record) for record in chain.made[:2]])
        await kept(tables, [*named(2), "audit#1"])
        assert await tables.values("SELECT reason FROM audit.violation") == ["wrong_link"]
        await publish(bus_place, [three])
        await kept(tables, [*named(2), "audit#1", "issuer#3"])


async def test_garbage_and_checkpoints_stop_nothing(bus_place: Place, tables: Tables) -> None:
    async with auditing(bus_place):
        garbage = Arrival("certwire.audit.issuer.cert_create", b"\x00\xff")
        await publish(bus_place, [garbage, *Chain().take(1)])
        await publish(bus_place, [Arrival(AUDIT_CHECKPOINT, b"a signed note")], "audit")
        await kept(tables, ["issuer#1", "audit#1"])
        assert await tables.values("SELECT reason FROM audit.violation") == ["malformed"]


async def test_a_wiped_stream_that_is_filled_again_makes_nothing_double(
    bus_place: Place, nats_server: NatsServer, tables: Tables
) -> None:
    chain = Chain()
    async with auditing(bus_place):
        await publish(bus_place, chain.take(3))
        await kept(tables, named(3))
        nats_server.stop()
        nats_server.wipe()
        await nats_server.start()
        await publish(bus_place, [arrival(record) for record in chain.made])
        await publish(bus_place, chain.take(2))
        await kept(tables, named(5))
        await acknowledged(bus_place)


async def test_records_that_postgres_lost_are_read_again(
    bus_place: Place, tables: Tables, postgres: PostgresServer
) -> None:
    """As after a restore from a backup: the consumer is ahead of the tables."""
    chain = Chain()
    async with auditing(bus_place):
        await publish(bus_place, chain.take(3))
        await kept(tables, named(3))
        await acknowledged(bus_place)
    async with postgres.fresh_database() as older:
        place = Place(bus_place.home, older, bus_place.nats_url)
        async with auditing(place, reread_seconds=0.2):
            await publish(place, chain.take(1))
            await kept(Tables(postgres, older), named(4))


async def test_a_lost_connection_to_postgres_is_made_again(
    bus_place: Place, tables: Tables
) -> None:
    chain = Chain()
    async with auditing(bus_place):
        await publish(bus_place, chain.take(1))
        await kept(tables, named(1))
        await tables.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'audit' AND datname = current_database()"
        )
        await publish(bus_place, chain.take(1))
        await kept(tables, named(2))


async def test_of_two_replicas_one_collects_and_the_other_takes_over(
    bus_place: Place, tables: Tables
) -> None:
    chain = Chain()
    async with auditing(bus_place) as second:
        async with auditing(bus_place) as first:
            await publish(bus_place, chain.take(200))
            await kept(tables, named(200))
            assert (await first.status()).ready
            assert (await second.status()).ready
        await publish(bus_place, chain.take(1))
        await kept(tables, named(201))
