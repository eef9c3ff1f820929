"""Orders by dns-01: records are there when the CA looks, and gone afterwards whatever happens."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from cryptography import x509
from starlette.types import Receive, Scope, Send

from contracts.acme import ChallengeType, DnsAccess, OrderState
from contracts.dns import DnsProviderName
from services.acme import answers
from services.acme.answers import Answers
from services.acme.settings import AcmeSettings
from tests.contract.acme.conftest import settings_for
from tests.contract.acme.crashing import Crash, Moment, Replica, replica
from tests.contract.acme.dialogue import certificate_of
from tests.support.dns_providers.cloudflare import CloudflareApi
from tests.support.dns_providers.faults import Faulty, serving, status
from tests.support.dns_providers.hosting import MemoryHosting, into, nowhere
from tests.support.pebble import ChallengeDns, Pebble
from tests.support.registry import Tables
from tests.support.servers import Place, PostgresServer

TOKEN = "a-token-of-cloudflare"
MOST = 60
RECORDS = "SELECT count(*) FROM acme.dns_record"
OF_ANOTHER_ORDER = """
WITH needed AS (UPDATE acme.dns_record SET remove_at = NULL RETURNING *)
INSERT INTO acme.dns_record (order_id, provider, sealed_credentials, name, value, remove_at)
SELECT gen_random_uuid(), provider, sealed_credentials, name, value, now() FROM needed
"""
ELSEWHERE = """
INSERT INTO acme.dns_record (order_id, provider, sealed_credentials, name, value)
SELECT gen_random_uuid(), 'aws', sealed_credentials, name, value FROM acme.dns_record
"""


@dataclass
class Zone:
    """A provider with one zone, and the settings of services that use it."""

    hosting: MemoryHosting
    provider: Faulty
    settings: AcmeSettings
    tables: Tables

    async def gone(self, acme_replica: Replica) -> bool:
        """Remove what is to be removed; return whether nothing is left."""
        while await Answers(acme_replica.acme).remove_some():
            pass
        left = [
            name
            for zone in self.hosting.zones.values()
            for name in zone.records
            if zone.records[name]
        ]
        return left == [] and await self.tables.values(RECORDS) == [0]


@pytest.fixture
async def zone(
    place: Place, postgres: PostgresServer, authority: Pebble, names: ChallengeDns
) -> AsyncIterator[Zone]:
    hosting = MemoryHosting(into(names))
    hosting.host("example.com")
    provider = Faulty(CloudflareApi(hosting, TOKEN).application)
    async with serving(provider) as url:
        settings = settings_for(
            place, authority, names, acme_dns_cloudflare_base_url=f"{url}/client/v4"
        )
        yield Zone(hosting, provider, settings, Tables(postgres, place.database_url))


@pytest.fixture
async def alone(zone: Zone) -> AsyncIterator[Replica]:
    async with replica(zone.settings) as one:
        yield one


def by_dns(token: str = TOKEN) -> dict[str, object]:
    """Return what of a wish is about the challenge."""
    access = DnsAccess(provider=DnsProviderName.CLOUDFLARE, credentials={"apiToken": token})
    return {"challenge_type": ChallengeType.DNS_01, "dns": access}


async def test_a_wildcard_and_the_name_below_which_it_is(alone: Replica, zone: Zone) -> None:
    await alone.prepare("all", "*.example.com")
    order = await alone.ended((await alone.obtain("all", **by_dns())).id)
    assert certificate_of(order).names == ("*.example.com", "example.com")
    [pem] = await zone.tables.values("SELECT chain_pem FROM acme.certificate")
    leaf = x509.load_pem_x509_certificate(pem.encode())
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(found.get_values_for_type(x509.DNSName)) == ["*.example.com", "example.com"]
    assert await zone.gone(alone)
    assert zone.provider.calls("POST") == 2


async def test_a_renewal_uses_the_credentials_that_were_sealed(alone: Replica, zone: Zone) -> None:
    await alone.prepare("api", "api.example.com")
    certificate_of(await alone.ended((await alone.obtain("api", **by_dns())).id))
    certificate_of(await alone.ended((await alone.renew("api")).id))
    certificate_of(await alone.ended((await alone.renew("api")).id))
    assert await zone.gone(alone)
    dump = await zone.tables.values(
        "SELECT row_to_json(c)::text FROM acme.certificate c UNION ALL"
        " SELECT row_to_json(o)::text FROM acme.acme_order o UNION ALL"
        " SELECT entry || coalesce(event, '') FROM acme.outbox"
    )
    assert dump
    assert not [text for text in dump if TOKEN in text or TOKEN.encode().hex() in text]


@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_at_any_commit_leaves_no_record(
    alone: Replica, zone: Zone, *, after: bool
) -> None:
    for number in range(1, MOST):
        name = f"at-{number}"
        await alone.prepare(name, f"{name}.example.com")
        order = await alone.obtain(name, **by_dns())
        crashed = False
        async with replica(zone.settings, commits=Moment(number, after=after)) as doomed:
            try:
                await doomed.work()
            except Crash:
                crashed = True
        certificate_of(await alone.ended(order.id))
        assert await zone.gone(alone), number
        if not crashed:
            assert number > 4
            return
    pytest.fail("it never got through")


async def test_a_crash_while_records_are_removed(alone: Replica, zone: Zone) -> None:
    await alone.prepare("all", "*.example.com")
    certificate_of(await alone.ended((await alone.obtain("all", **by_dns())).id))
    for number in (1, 2):
        async with replica(zone.settings, commits=Moment(number, after=False)) as doomed:
            with pytest.raises(Crash):
                await Answers(doomed.acme).remove_some()
    await zone.tables.run("UPDATE acme.dns_record SET remove_at = now()")
    assert await zone.gone(alone)


async def test_a_record_that_another_order_needs_stays(alone: Replica, zone: Zone) -> None:
    """CAs repeat an authorisation that is pending: two orders may be asked for the same value."""
    await alone.prepare("api", "api.example.com")
    certificate_of(await alone.ended((await alone.obtain("api", **by_dns())).id))
    await zone.tables.run(OF_ANOTHER_ORDER)
    assert not await zone.gone(alone)
    assert await zone.tables.values(RECORDS) == [1]
    assert zone.provider.calls("DELETE") == 0
    await zone.tables.run("UPDATE acme.dns_record SET remove_at = now()")
    assert await zone.gone(alone)
    assert zone.provider.calls("DELETE") == 1


async def test_a_record_that_is_needed_at_another_provider_is_removed(
    alone: Replica, zone: Zone
) -> None:
    await alone.prepare("api", "api.example.com")
    certificate_of(await alone.ended((await alone.obtain("api", **by_dns())).id))
    await zone.tables.run(ELSEWHERE)
    assert await Answers(alone.acme).remove_some() == 1
    assert zone.provider.calls("DELETE") == 1
    assert await zone.tables.values("SELECT provider FROM acme.dns_record") == ["aws"]


async def test_wrong_credentials_are_said_without_them(alone: Replica, zone: Zone) -> None:
    await alone.prepare("api", "api.example.com")
    order = await alone.ended((await alone.obtain("api", **by_dns("not-the-token"))).id)
    assert order.state is OrderState.FAILED
    assert order.error is not None
    assert order.error.detail.startswith("DNS provider error: ")
    assert "not-the-token" not in order.model_dump_json()
    assert await zone.tables.values("SELECT count(*) FROM acme.certificate") == [0]


async def test_records_that_nobody_sees_are_removed_too(alone: Replica, zone: Zone) -> None:
    zone.hosting._publish = nowhere
    async with replica(
        zone.settings.model_copy(update={"acme_propagation_seconds": 1})
    ) as impatient:
        await impatient.prepare("api", "api.example.com")
        order = await impatient.ended((await impatient.obtain("api", **by_dns())).id)
    assert order.error is not None
    assert order.error.detail.startswith("DNS-01 challenge failed: ")
    assert await zone.gone(alone)


async def test_a_provider_that_is_away_is_asked_again(alone: Replica, zone: Zone) -> None:
    await alone.prepare("api", "api.example.com")
    zone.provider.planned = [status(500)]
    certificate_of(await alone.ended((await alone.obtain("api", **by_dns())).id))
    zone.provider.always = status(503)
    await Answers(alone.acme).remove_some()
    assert await zone.tables.values(RECORDS) == [1]
    zone.provider.always = None
    await zone.tables.run("UPDATE acme.dns_record SET remove_at = now()")
    assert await zone.gone(alone)


async def test_nobody_waits_for_a_provider_longer_than_an_answer_may_take(
    alone: Replica, zone: Zone
) -> None:
    """The project would be locked all the time."""
    await alone.prepare("api", "api.example.com")
    zone.provider.always = status(429, retry_after="3600")
    order = await alone.ended((await alone.obtain("api", **by_dns())).id)
    zone.provider.always = None
    assert order.error is not None
    assert order.error.detail.startswith("DNS provider error: ")
    assert order.ended_at is not None
    assert order.ended_at - order.created_at < timedelta(seconds=10)
    assert await zone.gone(alone)


async def test_a_record_that_the_provider_lost_is_added_again(
    alone: Replica, zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "ADD_AGAIN_SECONDS", 1.0)
    added = 0

    async def forgetful(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal added
        await zone.provider.own(scope, receive, send)
        if scope["method"] == "POST":
            added += 1
            for each in zone.hosting.zones.values() if added == 1 else ():
                for name in list(each.records):
                    zone.hosting.replace(each, name, [])

    zone.provider.always = forgetful
    await alone.prepare("api", "api.example.com")
    certificate_of(await alone.ended((await alone.obtain("api", **by_dns())).id))
    assert added == 2
    assert await zone.gone(alone)


async def test_two_projects_prove_one_name_at_once(alone: Replica, zone: Zone) -> None:
    await alone.prepare("all", "*.example.com")
    await alone.prepare("one", "example.com")
    orders = [await alone.obtain("all", **by_dns()), await alone.obtain("one", **by_dns())]
    async with replica(zone.settings) as first, replica(zone.settings) as second:
        await asyncio.gather(*(each.work() for each in (first, second, first, second)))
        for order in orders:
            certificate_of(await first.ended(order.id))
    assert await zone.gone(alone)
