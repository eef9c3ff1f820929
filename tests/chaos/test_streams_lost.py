"""NATS loses everything that it stored, while the platform works: all of it comes again."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from tests.support.client import (
    TRANSPORT_ERRORS,
    Client,
    Workload,
    administrator,
    registered,
    running,
)
from tests.support.completeness import assert_everything_is_told
from tests.support.eventually import eventually
from tests.support.following import following, has
from tests.support.platform import Platform, running_platform

pytestmark = pytest.mark.timeout(180)

CALLERS = 3
BACK_SECONDS = 60
FINGERPRINTS = """
SELECT record::json -> 'object' ->> 'id' FROM audit.record
WHERE service = 'instance' AND action = 'cert_renew' AND outcome = 'success'
"""


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with running_platform() as platform:
        yield platform


@dataclass
class Load:
    """Instances that are registered and renew, one after the other, whatever happens."""

    platform: Platform
    renewed: list[str] = field(default_factory=list)
    """Fingerprints of the certificates that callers got."""

    async def go_on(self) -> None:
        """Make instances and let them renew, until cancelled."""
        async with administrator(self.platform) as admin:
            while True:
                with suppress(*TRANSPORT_ERRORS, AssertionError):  # a part is away just now
                    await self._one(admin)
                await asyncio.sleep(0.02)

    async def _one(self, admin: Client) -> None:
        workload = await running(admin)
        async with Client(self.platform, workload.identity) as itself:
            workload.takes(await itself.renew(workload))
        self.renewed.append(workload.sha256)
        await admin.move(workload.id, "terminated")

    async def more(self, count: int) -> None:
        """Wait until so many more have renewed."""
        target = len(self.renewed) + count

        async def reached() -> bool:
            return len(self.renewed) >= target

        await eventually(reached, f"{count} more renewals", seconds=BACK_SECONDS)


@asynccontextmanager
async def under_load(platform: Platform) -> AsyncIterator[Load]:
    """Have callers at work while the block runs."""
    load = Load(platform)
    callers = [asyncio.create_task(load.go_on()) for _ in range(CALLERS)]
    try:
        await load.more(5)
        yield load
        await load.more(5)
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


def delete_store(platform: Platform) -> None:
    """Take everything from NATS that it stored."""
    store = platform.home / "nats" / "store"
    assert any(store.rglob("*.blk")), "there is nothing to lose"
    shutil.rmtree(store)


async def assert_nothing_is_lost(platform: Platform, load: Load) -> None:
    """Every answered renewal is on the log, and every record and event on its stream."""
    await assert_everything_is_told(platform, seconds=BACK_SECONDS)
    assert set(load.renewed) <= set(await platform.values(FINGERPRINTS))


async def test_a_store_that_is_deleted_while_nats_is_dead(platform: Platform) -> None:
    async with under_load(platform) as load:
        with platform.without("nats"):
            delete_store(platform)
    await assert_nothing_is_lost(platform, load)


async def test_a_store_that_is_deleted_under_a_living_nats(platform: Platform) -> None:
    async with under_load(platform) as load:
        delete_store(platform)
        await load.more(3)
        platform.kill("nats")
    await assert_nothing_is_lost(platform, load)


async def test_a_store_that_is_deleted_between_two_runs(platform: Platform) -> None:
    async with under_load(platform) as load:
        await asyncio.to_thread(platform.stop, signal.SIGKILL)
        delete_store(platform)
        await asyncio.to_thread(platform.start)
    await assert_nothing_is_lost(platform, load)


async def test_followers_see_each_event_once_over_the_loss(platform: Platform) -> None:
    """`certwire events tail` and `audit tail` go on by themselves, through an empty stream."""
    async with administrator(platform) as admin, AsyncExitStack() as stack:
        tails = [
            await stack.enter_async_context(following(platform, word, "tail", "--json"))
            for word in ("events", "audit")
        ]
        first = await registered(admin)
        for tail in tails:
            await tail.until(has(first.id))
        with platform.without("nats"):
            delete_store(platform)
        second = await _registered_again(admin)
        for tail in tails:
            await tail.until(has(second.id), seconds=BACK_SECONDS)
            assert len([line for line in tail.seen if first.id in line]) == 1
    await assert_everything_is_told(platform, seconds=BACK_SECONDS)


async def _registered_again(admin: Client) -> Workload:
    async def attempt() -> Workload | None:
        with suppress(*TRANSPORT_ERRORS, AssertionError):  # not back yet
            return await registered(admin)
        return None

    found = await eventually(attempt, "instances are registered again", seconds=BACK_SECONDS)
    assert found is not None
    return found
