"""An order is cut off at every moment, and gone on with: one certificate, recorded once."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from contracts.acme import Order, OrderState
from services.acme.settings import AcmeSettings
from tests.contract.acme.conftest import settings_for
from tests.contract.acme.crashing import Crash, Moment, Replica, answering_for, replica
from tests.contract.acme.dialogue import certificate_of
from tests.support.pebble import ChallengeDns, Pebble, pebble
from tests.support.registry import Tables
from tests.support.servers import Place, PostgresServer

MOST = 60
"""Far more commits or requests than an order has."""
ISSUED = re.compile(r"Issued certificate serial (\w+)")
TAKEN_IN = re.compile(r"Added order \"")


@dataclass
class Survivor:
    """The replica that goes on, the settings of those that do not, and what there is to look at."""

    replica: Replica
    settings: AcmeSettings
    authority: Pebble
    tables: Tables

    def issued(self) -> int:
        """Return how many certificates the CA has issued."""
        return len(ISSUED.findall(self.authority.log.read_text()))

    def taken_in(self) -> int:
        """Return how many orders the CA has taken in."""
        return len(TAKEN_IN.findall(self.authority.log.read_text()))

    async def recorded(self, project_id: str) -> list[str]:
        """Return the events about the project's certificate."""
        return await self.tables.values(
            "SELECT event_subject FROM acme.outbox"
            " WHERE event::jsonb ->> 'owner' = $1 ORDER BY position",
            project_id,
        )

    async def left(self) -> list[int]:
        """Return how many challenges, keys and credentials of orders are left."""
        return await self.tables.values(
            "SELECT count(*) FROM acme.http_challenge UNION ALL SELECT count(*)"
            " FROM acme.acme_order WHERE sealed_key IS NOT NULL OR sealed_credentials IS NOT NULL"
        )


@pytest.fixture(scope="module")
def authority(names: ChallengeDns) -> Iterator[Pebble]:
    """A CA that refuses no nonce: the nth request is about the same thing each time."""
    with pebble(names, nonces_rejected_percent=0) as server:
        yield server


@pytest.fixture
async def survivor(
    place: Place, postgres: PostgresServer, authority: Pebble, names: ChallengeDns
) -> AsyncIterator[Survivor]:
    settings = settings_for(place, authority, names)
    async with (
        replica(settings) as other,
        answering_for(other.acme, authority.http_port),
    ):
        tables = Tables(postgres, place.database_url)
        yield Survivor(other, settings, authority, tables)


async def gone_on_with(survivor: Survivor, name: str, **moments: Moment) -> tuple[Order, bool]:
    """Begin an order, let a replica work on it that may crash, then another until it has ended."""
    await survivor.replica.prepare(name, f"{name}.example.com")
    begun = await survivor.replica.obtain(name)
    crashed = False
    async with replica(survivor.settings, **moments) as doomed:
        try:
            await doomed.work()
        except Crash:
            crashed = True
    return await survivor.replica.ended(begun.id), crashed


@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_at_any_commit(survivor: Survivor, *, after: bool) -> None:
    taken_in = survivor.taken_in()
    for number in range(1, MOST):
        before = survivor.issued()
        moment = Moment(number, after=after)
        order, crashed = await gone_on_with(survivor, f"at-{number}", commits=moment)
        certificate_of(order)
        assert survivor.issued() - before == 1, number
        assert await survivor.recorded(f"at-{number}") == ["certwire.events.certificate.issued"]
        assert await survivor.left() == [0, 0]
        if not crashed:
            assert number > 3, "there were commits to crash at"
            # Once the CA had it, and the process was gone before it could say where.
            twice = 0 if after else 1
            assert survivor.taken_in() - taken_in == number + twice
            return
    pytest.fail("it never got through")


@pytest.mark.parametrize("after", [False, True])
async def test_a_lost_request_or_reply(survivor: Survivor, *, after: bool) -> None:
    taken_in = survivor.taken_in()
    for number in range(1, MOST):
        moment = Moment(number, after=after)
        order, _ = await gone_on_with(survivor, f"lost-{number}", requests=moment)
        certificate_of(order)
        assert await survivor.recorded(f"lost-{number}") == ["certwire.events.certificate.issued"]
        assert await survivor.left() == [0, 0]
        if moment.passed < number:
            assert number > 8, "there were requests to lose"
            twice = 1 if after else 0  # the reply that says where the order is
            assert survivor.taken_in() - taken_in == number + twice
            return
    pytest.fail("it never got through")


async def test_a_key_that_does_not_open_is_tried_again_and_given_up(survivor: Survivor) -> None:
    await survivor.replica.prepare("a", "a.example.com")
    begun = await survivor.replica.obtain("a")
    spoilt = "UPDATE acme.acme_order SET sealed_key = 'x', csr = 'x', next_attempt_at = now()"
    await survivor.tables.run(spoilt)
    await survivor.replica.work()
    assert (await survivor.replica.order(begun.id)).state is OrderState.PENDING
    assert await survivor.replica.work() == 0, "not at once"
    await survivor.tables.run(f"{spoilt}, created_at = now() - interval '3 hours'")
    await survivor.replica.work()
    ended = await survivor.replica.order(begun.id)
    assert ended.error is not None
    assert ended.error.detail == "Internal error"
    assert await survivor.left() == [0, 0]
