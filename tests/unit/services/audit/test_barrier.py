"""Readers of the log see what was committed before they asked, whoever is down meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest
from nats.aio.msg import Msg

from contracts.audit_log import ListAuditRecords
from contracts.errors import CertwireError, ErrorCode
from contracts.outbox import GetOutboxHead, OutboxHead, outbox_subject
from contracts.principal import Principal, PrincipalKind, Role
from contracts.subjects import Service
from services.audit.app import build
from services.audit.settings import AuditSettings
from shared.broker import Bus
from shared.relay import LOCK_CLASS
from shared.settings import Settings
from tests.support import sample_service
from tests.support.registry import Tables
from tests.support.running import bus, call, running
from tests.support.sample_service import Keep
from tests.support.servers import Place, PostgresServer
from tests.support.stored import nats_client

ROOT = Principal(kind=PrincipalKind.USER, id="1", name="root", role=Role.SUPERUSER)
LOCK = "SELECT pg_try_advisory_lock($1, hashtext('instance'))"


@dataclass
class Reader:
    """The gateway, as far as it writes records and reads them."""

    bus: Bus

    async def keep(self, name: str) -> None:
        await self.bus.request(Keep(call=call(), principal=ROOT, name=name))

    async def names(self, actor: Principal = ROOT) -> list[str]:
        listed = await self.bus.request(ListAuditRecords(call=call(), actor=actor))
        return [record.object.name for record in listed.records]


@asynccontextmanager
async def auditing(place: Place) -> AsyncIterator[None]:
    async with running(await build(place.settings(AuditSettings))):
        yield


@asynccontextmanager
async def working(place: Place) -> AsyncIterator[None]:
    """Run a service that keeps names."""
    async with running(await sample_service.build(place.settings(Settings))):
        yield


async def holding_the_relay(
    postgres: PostgresServer, place: Place
) -> "asyncpg.Connection[asyncpg.Record]":
    """Return a connection that keeps every relay from its work until it is closed."""
    connection = await asyncpg.connect(
        postgres.superuser_url_of(place.database_url.rsplit("/", 1)[-1])
    )
    assert await connection.fetchval(LOCK, LOCK_CLASS)
    return connection


@pytest.fixture
async def reader(bus_place: Place) -> AsyncIterator[Reader]:
    async with bus(bus_place.settings(Settings), "gateway") as own:
        yield Reader(own)


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


async def test_what_was_committed_before_is_always_there(bus_place: Place, reader: Reader) -> None:
    async with auditing(bus_place), working(bus_place):
        for number in range(10):
            await reader.keep(f"name {number}")
            assert (await reader.names())[0] == f"name {number}"


async def test_every_writer_of_many_finds_its_own(bus_place: Place, reader: Reader) -> None:
    async def write_and_read(number: int) -> None:
        await reader.keep(f"name {number}")
        assert f"name {number}" in await reader.names()

    async with auditing(bus_place), working(bus_place), working(bus_place):
        await asyncio.gather(*map(write_and_read, range(50)))


async def test_it_does_not_matter_which_replica_is_asked(bus_place: Place, reader: Reader) -> None:
    async with auditing(bus_place), auditing(bus_place), working(bus_place):
        for number in range(10):
            await reader.keep(f"name {number}")
            assert (await reader.names())[0] == f"name {number}"


async def test_a_service_that_is_down_delays_nothing(bus_place: Place, reader: Reader) -> None:
    async with auditing(bus_place):
        async with working(bus_place):
            await reader.keep("before")
            assert await reader.names() == ["before"]
        begun = time.monotonic()
        assert await reader.names() == ["before"]
        assert time.monotonic() - begun < 1


async def test_a_relay_that_is_held_up_is_waited_for_no_longer_than_2_seconds(
    bus_place: Place, reader: Reader, postgres: PostgresServer
) -> None:
    holder = await holding_the_relay(postgres, bus_place)
    async with auditing(bus_place), working(bus_place):
        await reader.keep("late")
        begun = time.monotonic()
        assert await reader.names() == []
        assert 1.9 < time.monotonic() - begun < 4
        waiting = asyncio.create_task(reader.names())
        await asyncio.sleep(0.3)
        await holder.close()
        assert await waiting == ["late"], "it catches up within the 2 seconds"


async def test_a_service_that_says_nothing_hides_only_its_own(
    bus_place: Place, reader: Reader
) -> None:
    async def silent(_message: Msg) -> None:
        """Say nothing."""

    async with (
        auditing(bus_place),
        working(bus_place),
        nats_client(bus_place, "registry", "bus") as registry,
    ):
        await registry.subscribe(outbox_subject(Service.REGISTRY), cb=silent)
        await registry.flush()
        await reader.keep("seen")
        begun = time.monotonic()
        assert await reader.names() == ["seen"]
        assert 1.9 < time.monotonic() - begun < 4


async def test_readers_who_come_together_ask_the_services_together(
    bus_place: Place, reader: Reader
) -> None:
    asked: list[Msg] = []

    async with (
        auditing(bus_place),
        nats_client(bus_place, "registry", "bus") as registry,
    ):

        async def answer(message: Msg) -> None:
            asked.append(message)
            await asyncio.sleep(0.1)
            await registry.publish(message.reply, OutboxHead(sequence=0).model_dump_json().encode())

        await registry.subscribe(outbox_subject(Service.REGISTRY), cb=answer)
        await registry.flush()
        await asyncio.gather(*(reader.names() for _ in range(50)))
        assert 1 <= len(asked) <= 4


async def test_a_collector_that_cannot_keep_is_waited_for_no_longer_than_2_seconds(
    bus_place: Place, reader: Reader, tables: Tables
) -> None:
    async with auditing(bus_place), working(bus_place):
        await reader.keep("seen")
        assert await reader.names() == ["seen"]
        await tables.run("REVOKE INSERT ON audit.record FROM audit")
        await reader.keep("unkept")
        begun = time.monotonic()
        assert await reader.names() == ["seen"]
        assert 1.9 < time.monotonic() - begun < 4


async def test_a_head_is_not_told_before_the_relay_has_come_to_it(
    bus_place: Place, reader: Reader, postgres: PostgresServer
) -> None:
    holder = await holding_the_relay(postgres, bus_place)
    subject = outbox_subject(Service.INSTANCE)
    async with (
        working(bus_place),
        bus(bus_place.settings(Settings), "audit") as audit,
    ):
        head = await audit.request(GetOutboxHead(call=call(2)), subject)
        assert head.sequence == 0
        await asyncio.gather(*(reader.keep(f"{number}") for number in range(5)))
        with pytest.raises(CertwireError) as late:
            await audit.request(GetOutboxHead(call=call(0.5)), subject)
        assert late.value.code is ErrorCode.OUTCOME_UNKNOWN
        asking = asyncio.create_task(audit.request(GetOutboxHead(call=call(5)), subject))
        await asyncio.sleep(0.1)
        await holder.close()
        assert (await asking).sequence == 5


@pytest.mark.parametrize(
    ("kind", "role", "organization_id"),
    [
        (PrincipalKind.USER, Role.USER, 3),
        (PrincipalKind.USER, Role.ADMIN, None),
        (PrincipalKind.USER, None, 3),
        (PrincipalKind.ADMIN, Role.SUPERUSER, None),
        (PrincipalKind.AGENT, None, 3),
    ],
)
async def test_others_are_refused_before_anything_is_waited_for(
    bus_place: Place,
    reader: Reader,
    kind: PrincipalKind,
    role: Role | None,
    organization_id: int | None,
) -> None:
    who = Principal(kind=kind, id="1", name="x", role=role, organization_id=organization_id)
    async with auditing(bus_place):
        with pytest.raises(CertwireError) as refused:
            await reader.names(who)
        assert refused.value.code is ErrorCode.FORBIDDEN
