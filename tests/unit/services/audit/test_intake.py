"""The open tap: what has come, in order, through restarts of the server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from services.audit.domain.verification import Arrival
from services.audit.intake import BATCH, Intake
from tests.support.audit import publish, streams_client
from tests.support.servers import NatsServer, Place

SUBJECT = "certwire.audit.issuer.cert_create"


@asynccontextmanager
async def an_intake(place: Place) -> AsyncIterator[Intake]:
    async with streams_client(place, "audit") as client:
        intake = Intake(client)
        await intake.start()
        yield intake
        await intake.stop()


def numbered(count: int, start: int = 0) -> list[Arrival]:
    return [Arrival(SUBJECT, str(number).encode()) for number in range(start, start + count)]


def numbers(messages: list[Msg]) -> list[int]:
    return [int(message.data) for message in messages]


async def taken(intake: Intake, count: int) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            batch = await intake.take(0.5)
            assert len(batch) <= BATCH
            await intake.acknowledge(batch)
            found += numbers(batch)
    return found


async def test_everything_comes_in_order(bus_place: Place) -> None:
    count = 3 * BATCH
    await publish(bus_place, numbered(count))
    async with an_intake(bus_place) as intake:
        assert await taken(intake, count) == list(range(count))
        assert await intake.take(0.2) == []


async def test_what_comes_later_comes_soon(bus_place: Place) -> None:
    async with an_intake(bus_place) as intake:
        assert await intake.take(0.2) == []
        await publish(bus_place, numbered(1))
        assert numbers(await intake.take(2)) == [0]


async def test_what_is_not_acknowledged_comes_again(bus_place: Place) -> None:
    await publish(bus_place, numbered(2))
    async with an_intake(bus_place) as intake:
        assert numbers(await intake.take(2)) == [0, 1]
    async with an_intake(bus_place) as intake:
        assert await taken(intake, 2) == [0, 1]


async def test_the_tap_is_opened_again_after_a_restart_of_the_server(
    bus_place: Place, nats_server: NatsServer
) -> None:
    async with an_intake(bus_place) as intake:
        assert await intake.take(0.2) == []
        nats_server.stop()
        await nats_server.start()
        await publish(bus_place, numbered(1))
        assert await taken(intake, 1) == [0]


async def test_a_missing_consumer_is_waited_for(bus_place: Place, nats_server: NatsServer) -> None:
    async with an_intake(bus_place) as intake:
        nats_server.stop()
        nats_server.wipe()
        await nats_server.start()
        await publish(bus_place, numbered(1))
        assert await taken(intake, 1) == [0]
