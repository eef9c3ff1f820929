"""Certificates that are renewed by themselves: which, when, how many, and after failures."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from contracts.acme import GetRenewalSchedule, OrderKind, OrderState
from services.acme.handlers.overview import get_renewal_schedule
from services.acme.renewals import Renewals
from services.acme.service import Acme
from services.acme.settings import AcmeSettings
from services.acme.store import projects
from tests.contract.acme.conftest import settings_for
from tests.contract.acme.crashing import Replica, answering_for, replica
from tests.contract.acme.dialogue import ADMIN, Dialogue, certificate_of
from tests.support.eventually import eventually
from tests.support.pebble import ANOTHER_ACCOUNT, ChallengeDns, Pebble
from tests.support.registry import Tables
from tests.support.running import call
from tests.support.servers import Place

DUE = "UPDATE acme.certificate SET renew_at = now() WHERE project_id = ANY($1)"
LATE = "UPDATE acme.certificate SET not_after = now() + $2::interval WHERE project_id = $1"
BEGUN = "SELECT project_id FROM acme.acme_order WHERE kind = 'renew' ORDER BY created_at, id"


@pytest.fixture
def settings(place: Place, authority: Pebble, names: ChallengeDns) -> AcmeSettings:
    return settings_for(place, authority, names, acme_renewals_per_hour=4)


@pytest.fixture
async def alone(settings: AcmeSettings, authority: Pebble) -> AsyncIterator[Replica]:
    """A replica that does only what it is told to."""
    async with replica(settings) as one, answering_for(one.acme, authority.http_port):
        yield one


async def obtained(alone: Replica, *names: str, **changes: object) -> None:
    """Obtain certificates for projects of these names."""
    for name in names:
        await alone.prepare(name, f"{name}.example.com")
        order = await alone.obtain(name, **changes)
        certificate_of(await alone.ended(order.id))


async def test_a_certificate_that_is_due_is_renewed_by_whoever_finds_it(acme: Dialogue) -> None:
    await acme.project()
    first = await acme.obtained()
    assert first.auto_renew
    await acme.tables.run(DUE, ["shop"])

    async def is_renewed() -> bool:
        found = await acme.certificate()
        return found is not None and found.fingerprint != first.fingerprint

    await eventually(is_renewed, "another certificate")
    renewed = [event for name, event in await acme.events() if name == "certificate.renewed"]
    assert [event["renews"] for event in renewed] == [first.fingerprint]
    schedule = await acme.ask(GetRenewalSchedule, actor=ADMIN)
    assert schedule.active
    assert schedule.last_run is not None
    assert schedule.next_run is not None
    found = await acme.certificate()
    assert found is not None
    age = schedule.next_run - found.issued_at
    assert timedelta(days=90 * (2 / 3 - 0.05) - 1) <= age <= timedelta(days=60)


async def test_what_is_not_renewed_by_itself_has_no_next_run(
    settings: AcmeSettings, authority: Pebble
) -> None:
    by_hand = settings.model_copy(update={"acme_auto_renew": False})
    async with replica(by_hand) as one, answering_for(one.acme, authority.http_port):
        await obtained(one, "a")
        asked = GetRenewalSchedule(call=call(), actor=ADMIN)
        schedule = await get_renewal_schedule(asked, one.acme)
    assert (schedule.active, schedule.next_run) == (False, None)


async def test_one_that_is_not_to_be_renewed_is_left_alone(alone: Replica, tables: Tables) -> None:
    await obtained(alone, "a", auto_renew=False)
    await tables.run(
        "UPDATE acme.certificate SET not_after = now() + interval '1 hour' WHERE project_id = 'a'"
    )
    assert await Renewals(alone.acme).begin_due(staging=False) == 0
    assert await tables.values(BEGUN) == []


async def test_those_that_end_first_go_first(alone: Replica, tables: Tables) -> None:
    await obtained(alone, "routine", "expired", "expiring")
    await tables.run(LATE, "expired", timedelta(hours=-1))
    await tables.run(LATE, "expiring", timedelta(days=2))
    await tables.run(DUE, ["routine", "expired", "expiring"])
    assert await Renewals(alone.acme).begin_due(staging=False) == 3
    assert await tables.values(BEGUN) == ["expired", "expiring", "routine"]


async def test_replicas_share_the_budget_of_a_ca(
    alone: Replica, settings: AcmeSettings, tables: Tables
) -> None:
    names = [f"p{number}" for number in range(6)]
    await obtained(alone, *names)
    await tables.run(DUE, names)
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(replica(settings)) for _ in range(4)]
        begun = await asyncio.gather(
            *(Renewals(other.acme).begin_due(staging=False) for other in others for _ in range(3))
        )
    assert sum(begun) == 4
    assert len(await tables.values(BEGUN)) == len(set(await tables.values(BEGUN))) == 4
    await tables.run("UPDATE acme.authority SET counted_at = now() - interval '30 minutes'")
    assert await Renewals(alone.acme).begin_due(staging=False) == 2
    assert set(await tables.values(BEGUN)) == set(names)


async def test_what_never_succeeds_keeps_nothing_waiting(alone: Replica, tables: Tables) -> None:
    await obtained(alone, "dead", "alive")
    await tables.run(LATE, "dead", timedelta(days=-30))
    await tables.run("UPDATE acme.certificate SET failures = 9 WHERE project_id = 'dead'")
    await tables.run(DUE, ["dead", "alive"])
    await Renewals(alone.acme).begin_due(staging=False)
    assert await tables.values(BEGUN) == ["alive", "dead"]


async def test_a_project_that_somebody_changes_is_not_waited_for(
    alone: Replica, tables: Tables
) -> None:
    """Whoever changes it may wait for the certificate, which the schedule has locked."""
    await obtained(alone, "changing", "other")
    await tables.run(DUE, ["changing", "other"])
    async with alone.acme.runtime.database.transaction() as connection:
        await projects.lock(connection, "changing")
        async with asyncio.timeout(5):
            await Renewals(alone.acme).begin_due(staging=False)
        assert await tables.values(BEGUN) == ["other"]
    await Renewals(alone.acme).begin_due(staging=False)
    assert await tables.values(BEGUN) == ["other", "changing"]


async def test_one_that_cannot_be_read_keeps_no_other_waiting(
    alone: Replica, tables: Tables
) -> None:
    await obtained(alone, "spoilt", "sound")
    await tables.run(
        "UPDATE acme.certificate SET not_after = not_after - interval '1 day',"
        " issuance = '{}' WHERE project_id = 'spoilt'"
    )
    await tables.run(DUE, ["spoilt", "sound"])
    await Renewals(alone.acme).begin_due(staging=False)
    assert await tables.values(BEGUN) == ["sound"]
    [row] = await tables.run(
        "SELECT failures, last_renew_error, renew_at > now() AS later FROM acme.certificate"
        " WHERE project_id = 'spoilt'"
    )
    assert tuple(row) == (1, "Internal error", True)


async def test_a_failed_renewal_says_why_and_is_tried_again(
    alone: Replica, tables: Tables, names: ChallengeDns
) -> None:
    await obtained(alone, "a")
    await tables.run(ANOTHER_ACCOUNT, "a.example.com")
    names.set_a("a.example.com", "127.0.0.2")
    try:
        for failures in (1, 2):
            await tables.run(DUE, ["a"])
            assert await Renewals(alone.acme).begin_due(staging=False) == 1
            while await alone.work():
                pass
            [row] = await tables.run(
                "SELECT failures, last_renew_error, renew_at - now() AS again, not_after"
                " FROM acme.certificate"
            )
            assert row["failures"] == failures
            assert row["last_renew_error"].startswith(
                "HTTP-01 challenge failed: Could not verify domain ownership ("
            )
            hours = row["again"] / timedelta(hours=1)
            assert 0.79 * failures <= hours <= 1.21 * failures
    finally:
        names.clear_a("a.example.com")
    await tables.run(DUE, ["a"])
    await Renewals(alone.acme).begin_due(staging=False)
    while await alone.work():
        pass
    [row] = await tables.run("SELECT failures, last_renew_error FROM acme.certificate")
    assert (row["failures"], row["last_renew_error"]) == (0, None)


async def test_what_somebody_began_is_not_begun_again(alone: Replica, tables: Tables) -> None:
    await obtained(alone, "a")
    await tables.run(DUE, ["a"])
    by_hand = await alone.renew("a")
    await Renewals(alone.acme).begin_due(staging=False)
    assert await Renewals(alone.acme).begin_due(staging=False) == 0
    assert await tables.values(BEGUN) == ["a"]
    [attempt] = await tables.values("SELECT last_renew_attempt FROM acme.certificate")
    assert attempt == by_hand.created_at, "it is seen before it has ended"
    order = await alone.ended(by_hand.id)
    assert (order.kind, order.state) == (OrderKind.RENEW, OrderState.VALID)


async def test_a_paused_ca_is_left_alone(
    alone: Replica, settings: AcmeSettings, tables: Tables
) -> None:
    await obtained(alone, "a")
    await tables.run(DUE, ["a"])
    acme: Acme = alone.acme
    await tables.run(
        "INSERT INTO acme.authority (directory, paused_until, pause_reason, renewals)"
        " VALUES ($1, now() + interval '1 minute', 'busy', 4)",
        settings.acme_directory_url,
    )
    assert await Renewals(acme).begin_due(staging=False) == 0
    await tables.run("UPDATE acme.authority SET paused_until = now()")
    assert await Renewals(acme).begin_due(staging=False) == 1
