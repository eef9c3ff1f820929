"""Keys that were made ahead, and those that somebody waits for."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from contracts.errors import CertwireError, ErrorCode
from services.issuer import key_pool
from services.issuer.key_pool import Keys
from services.issuer.key_worker import Worker, WorkerError
from services.issuer.keys import KeyAlgorithm, PrivateKey
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from tests.support.eventually import eventually
from tests.support.servers import Place
from tests.unit.services.issuer.builders import key_of
from tests.unit.services.issuer.conftest import Records


@pytest.fixture
def settings(place: Place) -> IssuerSettings:
    return place.settings(IssuerSettings, issuer_key_pool_rsa2048=3, issuer_key_workers=1)


@pytest.fixture
async def keys(issuer: Issuer) -> AsyncIterator[Keys]:
    yield issuer.keys
    await issuer.keys.close()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Workers answer at once, with one key for all; the sizes that they were asked for."""
    sizes: list[int] = []

    async def make(_worker: Worker, bits: int) -> PrivateKey:
        sizes.append(bits)
        await asyncio.sleep(0)
        return key_of(KeyAlgorithm.RSA2048)

    monkeypatch.setattr(Worker, "make", make)
    return sizes


async def filled(records: Records, keys: Keys, size: int = 3) -> asyncio.Task[None]:
    """Let the pool be filled, and wait until it is."""
    filling = asyncio.create_task(keys.fill())

    async def is_full() -> bool:
        return len(await records.rows("SELECT FROM key_pool")) >= size

    await eventually(is_full, "the pool is full")
    return filling


async def stopped(filling: asyncio.Task[None]) -> None:
    filling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await filling


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        (KeyAlgorithm.P384, ec.EllipticCurvePrivateKey),
        (KeyAlgorithm.ED25519, ed25519.Ed25519PrivateKey),
    ],
)
async def test_quick_keys_are_made_at_once(
    keys: Keys, made: list[int], algorithm: KeyAlgorithm, kind: type[PrivateKey]
) -> None:
    assert isinstance(await keys.take(algorithm), kind)
    assert not made


async def test_the_pool_is_filled_with_sealed_keys_and_no_further(
    keys: Keys, records: Records
) -> None:
    filling = await filled(records, keys)
    await asyncio.sleep(0.2)
    await stopped(filling)
    rows = await records.rows("SELECT * FROM key_pool")
    assert [row["algorithm"] for row in rows] == ["rsa2048"] * 3
    key = await keys.take(KeyAlgorithm.RSA2048)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048


async def test_what_was_taken_is_made_anew(keys: Keys, records: Records, made: list[int]) -> None:
    filling = await filled(records, keys)
    await keys.take(KeyAlgorithm.RSA2048)

    async def is_made_again() -> bool:
        return len(made) == 4

    await eventually(is_made_again, "another is made")
    await stopped(filling)


async def test_many_takers_on_two_replicas_get_each_another_key(
    keys: Keys,
    issuer: Issuer,
    settings: IssuerSettings,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(key_pool, "WAIT_SECONDS", 60)  # a busy machine takes its time
    filling = await filled(records, keys)
    await stopped(filling)
    other = Keys(settings, issuer.runtime.database)
    taken = await asyncio.gather(
        *(replica.take(KeyAlgorithm.RSA2048) for replica in (keys, other) for _ in range(4))
    )
    await other.close()
    moduli = {
        key.public_key().public_numbers().n for key in taken if isinstance(key, rsa.RSAPrivateKey)
    }
    assert len(moduli) == 8
    assert not await records.rows("SELECT FROM key_pool")


async def test_other_sizes_are_made_while_one_waits(keys: Keys, made: list[int]) -> None:
    await keys.take(KeyAlgorithm.RSA3072)
    assert made == [3072]


async def test_an_empty_pool_makes_one_wait(keys: Keys, made: list[int]) -> None:
    await keys.take(KeyAlgorithm.RSA2048)
    assert made == [2048]


async def test_a_key_that_does_not_open_is_passed_over(
    keys: Keys, records: Records, made: list[int]
) -> None:
    filling = await filled(records, keys)
    await stopped(filling)
    await records.rows("UPDATE key_pool SET sealed_key = 'nonsense'")
    made.clear()
    await keys.take(KeyAlgorithm.RSA2048)
    assert made == [2048]
    assert not await records.rows("SELECT FROM key_pool")


async def test_only_so_many_wait(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def make(_worker: Worker, _bits: int) -> PrivateKey:
        await go_on.wait()
        return key_of(KeyAlgorithm.RSA2048)

    monkeypatch.setattr(Worker, "make", make)
    waiting = [
        asyncio.create_task(keys.take(KeyAlgorithm.RSA3072))
        for _ in range(key_pool.MOST_WAITING + 1)
    ]
    await asyncio.sleep(0)
    with pytest.raises(CertwireError) as refused:
        await keys.take(KeyAlgorithm.RSA3072)
    assert refused.value.code is ErrorCode.OVERLOADED
    assert refused.value.retry_after_seconds
    go_on.set()
    await asyncio.gather(*waiting)
    await keys.take(KeyAlgorithm.RSA3072)


async def test_nobody_waits_longer_than_a_caller_does(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_pool, "WAIT_SECONDS", 0.05)
    go_on = asyncio.Event()

    async def make(_worker: Worker, _bits: int) -> PrivateKey:
        await go_on.wait()
        return key_of(KeyAlgorithm.RSA2048)

    monkeypatch.setattr(Worker, "make", make)
    first = asyncio.create_task(keys.take(KeyAlgorithm.RSA3072))
    await asyncio.sleep(0)
    with pytest.raises(CertwireError) as refused:
        await keys.take(KeyAlgorithm.RSA3072)
    assert refused.value.code is ErrorCode.OVERLOADED
    go_on.set()
    await first
    await keys.take(KeyAlgorithm.RSA3072)


async def test_workers_that_die_are_tried_once_more(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    async def make(_worker: Worker, _bits: int) -> PrivateKey:
        nonlocal tries
        tries += 1
        raise WorkerError

    monkeypatch.setattr(Worker, "make", make)
    with pytest.raises(CertwireError) as refused:
        await keys.take(KeyAlgorithm.RSA3072)
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert tries == key_pool.TRIES
