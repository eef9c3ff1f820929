"""A day of machines with `certwire agent`: outages of every part, kills, and calls that get lost.

A day is a minute long: certificates live for as long, and are due 10 s after they were made, for
they are backdated by half a minute. Whatever happens, key and certificate on the disk belong
together, are valid, and are good for the platform.
"""

import asyncio
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.eventually import eventually
from tests.support.lossy import Loss, Way
from tests.support.machines import (
    FAILED,
    KINDS,
    PATIENCE_SECONDS,
    RENEWED,
    Machine,
    NewMachine,
    has_one_certificate,
    hasty_platform,
    new_agent,
    new_instance,
)
from tests.support.platform import PARTS, Platform

pytestmark = pytest.mark.timeout(300)

DAY_SECONDS = 60
DUE_SECONDS = 10
CHANCE = secrets.SystemRandom()
MACHINES = 3
"""Of each kind: so that one of them is due every few seconds."""
NEEDED_BY_ALL = {"gateway", "nats", "postgres", "issuer"}
NEEDED: dict[NewMachine, set[str]] = {
    new_agent: NEEDED_BY_ALL | {"registry"},
    new_instance: NEEDED_BY_ALL | {"instance"},
}
"""To renew."""


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """Return a platform with short days."""
    with hasty_platform(
        CERTWIRE_ISSUER_AGENT_LIFETIME_SECONDS=str(DAY_SECONDS),
        CERTWIRE_ISSUER_INSTANCE_LIFETIME_SECONDS=str(DAY_SECONDS),
    ) as platform:
        yield platform


class Day:
    """Machines at work through outages, kills and losses."""

    def __init__(self, platform: Platform, way: Way) -> None:
        self.machines: dict[NewMachine, list[Machine]] = {kind: [] for kind in KINDS}
        self._platform = platform
        self._way = way
        self._works = True

    @property
    def all(self) -> list[Machine]:
        """Return the machines that have joined."""
        return [machine for machines in self.machines.values() for machine in machines]

    async def begin(self, kind: NewMachine, machine: Machine, wait: float) -> None:
        """Let a machine join after a while, whatever is away then, and run."""
        await asyncio.sleep(wait)
        done = await machine.join()
        assert done.code == 0, done
        await machine.run("--secrets-interval", "3")
        self.machines[kind].append(machine)

    async def has_begun(self) -> None:
        """Wait for all machines but the late ones, which join through whatever comes."""

        async def joined() -> bool:
            return all(len(machines) >= MACHINES for machines in self.machines.values())

        await eventually(joined, "the machines have joined", seconds=DAY_SECONDS)

    async def watch(self) -> None:
        """Look at the disks all the time."""
        while self._works:
            for machine in self.all:
                machine.pair()
            await asyncio.sleep(0.1)

    async def kill(self) -> None:
        """End some machine's process at once, now and then; it is started again."""
        while self._works:
            await asyncio.sleep(CHANCE.uniform(0.2, 1.5))
            for machine in CHANCE.sample(self.all, k=min(1, len(self.all))):
                assert await machine.stop(signal.SIGKILL) == [-signal.SIGKILL]
                machine.pair()
                await machine.run("--secrets-interval", "3")

    async def lack(self, part: str) -> None:
        """Be without a part until machines of both kinds have noticed, or renewed."""
        with self._platform.without(part):
            marks = {machine: len(machine.said) for machine in self.all}

            async def noticed() -> bool:
                return all(
                    any(
                        (FAILED if part in NEEDED[kind] else RENEWED) in machine.said[mark:]
                        for machine, mark in marks.items()
                        if machine in self.machines[kind]
                    )
                    for kind in KINDS
                )

            await eventually(noticed, f"{part} is missed", seconds=DAY_SECONDS)

        async def none_waits() -> bool:
            return all(m.said.rfind(FAILED) <= m.said.rfind(RENEWED) for m in self.all)

        await eventually(none_waits, f"{part} is back, all renew", seconds=PATIENCE_SECONDS)

    async def end(self) -> None:
        """Let what is lost be enough."""
        self._works = False
        self._way.otherwise = lambda: Loss.NOTHING


def sometimes() -> Loss:
    """Lose every third call or so."""
    losses = (Loss.REQUEST, Loss.REPLY, Loss.REPLY, Loss.HALF_OF_THE_REPLY)
    return CHANCE.choice(losses) if CHANCE.random() < 1 / 3 else Loss.NOTHING


async def test_a_day_of_outages_kills_and_losses(
    platform: Platform, admin: Client, way: Way, tmp_path: Path
) -> None:
    day = Day(platform, way)
    kinds = KINDS * (MACHINES + 1)
    made = [(kind, await kind(admin, platform, way, tmp_path)) for kind in kinds]
    way.otherwise = sometimes
    try:
        async with asyncio.TaskGroup() as group:
            for number, (kind, machine) in enumerate(made):
                wait = DUE_SECONDS * (number // len(KINDS)) / MACHINES
                group.create_task(day.begin(kind, machine, wait))
            group.create_task(day.watch())
            group.create_task(day.kill())
            await day.has_begun()
            for part in CHANCE.sample(PARTS, k=len(PARTS)):
                await day.lack(part)
            await day.end()
        assert len(day.all) == len(made)
        await asyncio.gather(*(machine.becomes_accepted() for machine in day.all))
    finally:
        codes = [await machine.stop() for _, machine in made]
    assert codes == [[0]] * len(made)
    for machine in day.all:
        assert (await machine.certwire("run", "--once")).code == 0  # what was begun is finished
        assert await machine.is_accepted()
        assert len(await machine.signed()) > 1
    assert {Loss.REQUEST, Loss.REPLY, Loss.HALF_OF_THE_REPLY} <= set(way.lost)
    await asyncio.gather(*(has_one_certificate(machine) for machine in day.all))
