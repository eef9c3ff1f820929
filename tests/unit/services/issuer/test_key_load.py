"""What RSA keys that are made cost those who sign meanwhile. `-s` prints the figures."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.issuer.handlers.platform import sign_instance_certificate
from services.issuer.keys import KeyAlgorithm
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from tests.support.eventually import eventually
from tests.support.servers import Place
from tests.unit.services.issuer.builders import PUBLIC_URL, order
from tests.unit.services.issuer.conftest import Records

SIGNATURES = 600
KEYS, LONGEST_SECONDS = 2, 12
"""How many are made meanwhile; fewer where the machine is busy, for signing comes first."""
AT_ONCE = 4
GENEROUS_SECONDS = 1.0
"""For one signature of a hundred, on a machine that does much else; it takes some ten ms."""
WARM_SECONDS = 3.0
"""What the creation of a CA may take, of which the key is the part that is not quick."""


@pytest.fixture
def settings(place: Place) -> IssuerSettings:
    return place.settings(
        IssuerSettings, public_url=PUBLIC_URL, issuer_key_pool_rsa4096=4, issuer_key_workers=1
    )


@pytest.fixture
async def keys_close(issuer: Issuer) -> AsyncIterator[None]:
    yield
    await issuer.keys.close()


async def seconds(work: Callable[[], Awaitable[object]], count: int, at_once: int) -> list[float]:
    """Do something so many times, some at a time; return how long each took, sorted."""
    took: list[float] = []

    async def some() -> None:
        for _ in range(count // at_once):
            began = time.perf_counter()
            await work()
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(some() for _ in range(at_once)))
    return sorted(took)


def shown(what: str, took: list[float]) -> None:
    p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
    text = f"{what}: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, of {len(took)}"
    print(f"\n{text}")  # noqa: T201 - what `-s` is for


@pytest.mark.usefixtures("keys_close")
async def test_signing_goes_on_while_rsa_keys_are_made(issuer: Issuer) -> None:
    made = 0

    async def signed() -> list[float]:
        commands = iter([order() for _ in range(SIGNATURES)])
        return await seconds(
            lambda: sign_instance_certificate(next(commands), issuer), SIGNATURES, AT_ONCE
        )

    async def make() -> None:
        nonlocal made
        while True:
            await issuer.keys.take(KeyAlgorithm(KeyAlgorithm.RSA4096.key_type, 4104))
            made += 1

    await signed()  # the first ones open connections
    alone = await signed()
    making = [asyncio.create_task(make()), asyncio.create_task(issuer.keys.fill())]
    beside, until = await signed(), time.monotonic() + LONGEST_SECONDS
    while made < KEYS and time.monotonic() < until:
        beside += await signed()
    beside.sort()
    for task in making:
        task.cancel()
    await asyncio.gather(*making, return_exceptions=True)
    shown("signing alone", alone)
    shown(f"signing while RSA-4096 is made without a pause ({made} made)", beside)
    assert beside[len(beside) * 99 // 100] < GENEROUS_SECONDS


@pytest.mark.usefixtures("keys_close")
async def test_a_key_from_a_warm_pool_takes_no_time(issuer: Issuer, records: Records) -> None:
    filling = asyncio.create_task(issuer.keys.fill())

    async def is_full() -> bool:
        return len(await records.rows("SELECT FROM key_pool")) >= 4

    await eventually(is_full, "the pool is full", seconds=90)
    took = await seconds(lambda: issuer.keys.take(KeyAlgorithm.RSA4096), 4, 1)
    shown("RSA-4096 from the pool", took)
    filling.cancel()
    await asyncio.gather(filling, return_exceptions=True)
    assert took[-1] < WARM_SECONDS
