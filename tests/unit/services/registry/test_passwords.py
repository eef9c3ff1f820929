"""Passwords: right or wrong, in a time that tells nothing, and a few at once."""

import asyncio
import time
from statistics import median

import pytest
from argon2 import PasswordHasher

from contracts.errors import CertwireError, ErrorCode
from services.registry.passwords import MOST_AT_ONCE, Passwords

QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


def soon() -> float:
    return time.time() + 10


async def test_a_password_is_right_or_wrong() -> None:
    passwords = Passwords(QUICK)
    stored = await passwords.hash("right")
    assert stored.startswith("$argon2id$")
    assert await passwords.verify(stored, "right", soon())
    assert not await passwords.verify(stored, "wrong", soon())
    assert not await passwords.verify("no hash", "right", soon())
    assert not await passwords.verify(None, "right", soon())


async def test_an_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    passwords = Passwords()
    await passwords.load()
    stored = await passwords.hash("right")

    async def seconds(of: str | None) -> float:
        began = time.perf_counter()
        assert not await passwords.verify(of, "wrong", soon())
        return time.perf_counter() - began

    known, unknown = [], []
    for _ in range(3):
        known.append(await seconds(stored))
        unknown.append(await seconds(None))
    assert median(known) / 2 < median(unknown) < median(known) * 2


async def test_a_turn_that_comes_too_late_is_not_taken() -> None:
    with pytest.raises(CertwireError) as refused:
        await Passwords(QUICK).verify(None, "wrong", time.time() - 1)
    assert refused.value.code is ErrorCode.OVERLOADED
    with pytest.raises(CertwireError) as refused:
        await Passwords(QUICK).hash("new", time.time() - 1)
    assert refused.value.code is ErrorCode.OVERLOADED


async def test_only_a_few_are_hashed_at_once() -> None:
    class Counting(PasswordHasher):
        now = most = 0

        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            Counting.now += 1
            Counting.most = max(Counting.most, Counting.now)
            time.sleep(0.01)
            Counting.now -= 1
            return super().hash(password, salt=salt)

    passwords = Passwords(Counting(time_cost=1, memory_cost=64, parallelism=1))
    await asyncio.gather(*(passwords.hash("x") for _ in range(10)))
    assert Counting.most == MOST_AT_ONCE
