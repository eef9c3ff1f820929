"""What a replica works on, and what it leaves to others."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from contracts.acme import OrderState
from services.acme.answers import Answers
from services.acme.ordering import Ordering
from services.acme.service import Acme
from services.acme.workers import Workers
from tests.contract.acme.conftest import settings_with
from tests.contract.acme.crashing import Replica, replica
from tests.support.eventually import eventually
from tests.support.hostile_ca import DOMAIN, HostileCa, Reply, hostile_ca, problem
from tests.support.registry import Tables
from tests.support.servers import Place

LEASE_SECONDS = 1.5
SLOW = "slow.example.com"


@pytest.fixture
async def hostile() -> AsyncIterator[HostileCa]:
    """A CA whose orders stay pending, and whose staging has a directory of its own."""
    async with hostile_ca() as server:
        staging = copy.deepcopy(server.directory)
        staging["newOrder"] = server.url("staging-order")
        server.replies["/staging"] = Reply(staging)
        slow = {"type": "dns", "value": SLOW}
        order = {**server.order, "identifiers": [slow], "authorizations": [server.url("slow")]}
        location = [("Location", server.url("staging-order"))]
        server.replies["/staging-order"] = Reply(order, 201, headers=location)
        server.replies["/slow"] = Reply({**server.authorization, "identifier": slow})
        yield server


@pytest.fixture
async def alone(place: Place, hostile: HostileCa) -> AsyncIterator[Replica]:
    """A replica that works on one order of each CA."""
    settings = settings_with(
        place,
        hostile,
        acme_staging_directory_url=hostile.url("staging"),
        acme_concurrent_orders=1,
        acme_lease_seconds=LEASE_SECONDS,
    )
    async with replica(settings) as one:
        yield one


def workers_of(acme: Acme) -> Workers:
    return Workers(acme, Ordering(acme, Answers(acme)))


@asynccontextmanager
async def working(acme: Acme) -> AsyncIterator[None]:
    """Work on orders until the block ends."""
    work = asyncio.create_task(workers_of(acme).run())
    try:
        yield
        assert not work.done()
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def was_asked(hostile: HostileCa, path: str) -> None:
    """Wait until the CA has been asked for something."""

    async def asked() -> bool:
        return bool(hostile.asked_at(path))

    await eventually(asked, f"{path} was asked for")


async def test_a_ca_that_keeps_its_orders_waiting_holds_no_other_one_s_up(
    alone: Replica, hostile: HostileCa
) -> None:
    domains = {"slow": SLOW, "waiting": "waiting.example.com", "www": DOMAIN}
    for name, domain in domains.items():
        await alone.prepare(name, domain)
    await alone.obtain("slow", staging=True)
    await alone.obtain("waiting", staging=True)
    async with working(alone.acme):
        await was_asked(hostile, "/slow")
        hostile.replies["/new-order"] = problem("rejectedIdentifier", "not that one", 400)
        order = await alone.obtain("www")

        async def has_failed() -> bool:
            return (await alone.order(order.id)).state is OrderState.FAILED

        await eventually(has_failed, "the CA has said what it thinks")
    assert len(hostile.asked_at("/staging-order")) == 1, "it has one at the most"


async def test_work_ends_where_the_database_does_not_play_along_and_is_gone_on_with_afterwards(
    alone: Replica, hostile: HostileCa, tables: Tables
) -> None:
    await alone.prepare("www", DOMAIN)
    await alone.obtain("www")
    workers = asyncio.create_task(workers_of(alone.acme).run())
    await was_asked(hostile, "/authorization")
    await asyncio.sleep(2 * LEASE_SECONDS)
    assert hostile.asked_at("/order") == [], "the lease is kept: nobody has begun again"
    await tables.run("REVOKE UPDATE ON acme.acme_order FROM acme")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await workers
    asked = len(hostile.asked)
    await asyncio.sleep(LEASE_SECONDS)
    assert len(hostile.asked) == asked
    await tables.run("GRANT UPDATE ON acme.acme_order TO acme")
    async with working(alone.acme):
        await was_asked(hostile, "/order")
    assert len(hostile.asked_at("/new-order")) == 1
