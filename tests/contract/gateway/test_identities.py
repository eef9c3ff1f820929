"""Asking the registry who credentials stand for: together, and never from before."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Credential, CredentialKind, Principal, PrincipalKind
from contracts.registry import ResolveCredentials, ResolvedCredentials
from contracts.subjects import Service
from services.gateway.credentials import Identities, Question
from shared.settings import Settings
from tests.nats_server import NatsHome
from tests.support.running import bus
from tests.support.stand_in import StandIn, standing_in


def question(number: int) -> Question:
    credential = Credential(kind=CredentialKind.BEARER, sha256=f"{number:064x}")
    return Question(credential=credential, request_id=str(number))


def user(number: int) -> Principal:
    return Principal(kind=PrincipalKind.USER, id=str(number), name=f"user {number}")


def soon() -> float:
    return time.time() + 10


@pytest.fixture
async def identities(nats_home: NatsHome, stand_in: StandIn) -> AsyncIterator[Identities]:
    for number in range(0, 2000, 2):
        stand_in.know(f"{number:064x}", user(number))
    settings = Settings(home=nats_home.home, CERTWIRE_NATS_URL=nats_home.url)
    async with (
        standing_in(nats_home, stand_in, (Service.REGISTRY,)),
        bus(settings, Service.GATEWAY) as gateway,
    ):
        yield Identities(gateway)


async def test_many_share_a_message_and_each_hears_its_own(
    identities: Identities, stand_in: StandIn
) -> None:
    numbers = range(1200)
    found = await asyncio.gather(*(identities.resolve(question(n), soon()) for n in numbers))
    assert found == [user(n) if n % 2 == 0 else None for n in numbers]
    asked = stand_in.heard_of(ResolveCredentials)
    assert len(asked) <= 4
    assert sum(len(command.questions) for command in asked) == 1200


async def test_none_joins_a_message_that_was_sent_before_it(
    identities: Identities, stand_in: StandIn
) -> None:
    """What the registry is still answering may be from before a revocation."""
    release = asyncio.Event()

    async def slowly(command: ResolveCredentials) -> ResolvedCredentials:
        found = [stand_in.principals.get(q.credential.sha256) for q in command.questions]
        await release.wait()
        return ResolvedCredentials(principals=tuple(found))

    stand_in.says({ResolveCredentials: slowly})
    before = asyncio.create_task(identities.resolve(question(2), soon()))
    while not stand_in.heard:
        await asyncio.sleep(0.01)
    stand_in.principals.clear()  # revoked
    after = asyncio.create_task(identities.resolve(question(2), soon()))
    await asyncio.sleep(0.1)
    release.set()
    assert await before == user(2)
    assert await after is None


async def test_everybody_who_waits_hears_of_a_failure(
    identities: Identities, stand_in: StandIn
) -> None:
    stand_in.says({ResolveCredentials: CertwireError(ErrorCode.UNAVAILABLE)})
    found = await asyncio.gather(
        *(identities.resolve(question(n), soon()) for n in range(10)), return_exceptions=True
    )
    assert all(isinstance(one, CertwireError) for one in found)
    del stand_in.answers[ResolveCredentials]
    assert await identities.resolve(question(4), soon()) == user(4)


async def test_who_cannot_wait_does_not_hold_up_the_others(
    identities: Identities, stand_in: StandIn
) -> None:
    async def slowly(command: ResolveCredentials) -> ResolvedCredentials:
        await asyncio.sleep(0.3)
        return ResolvedCredentials(principals=tuple(user(7) for _ in command.questions))

    stand_in.says({ResolveCredentials: slowly})
    hasty = asyncio.create_task(identities.resolve(question(1), time.time() + 0.05))
    patient = asyncio.create_task(identities.resolve(question(2), soon()))
    with pytest.raises(CertwireError) as refused:
        await hasty
    assert refused.value.code is ErrorCode.OUTCOME_UNKNOWN
    assert await patient == user(7)
