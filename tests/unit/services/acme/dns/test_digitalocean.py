"""DigitalOcean: records as objects, and pages whose links nobody follows."""

import json
import time
from collections.abc import AsyncIterator

import pytest

from services.acme.dns import DnsProviderError, digitalocean
from tests.support.dns_providers import accounts
from tests.support.dns_providers.accounts import Account
from tests.support.dns_providers.faults import status
from tests.support.dns_providers.hosting import MemoryHosting

NAME = "_acme-challenge.example.test"
VALUE = "A" * 43


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    async with accounts.digitalocean() as account:
        yield account


async def test_the_record_has_the_lowest_ttl(account: Account) -> None:
    zone_id = account.hosting.host("example.test")
    await account.provider.add(NAME, VALUE)
    assert isinstance(account.hosting, MemoryHosting)
    records = account.hosting.zones[zone_id].records
    assert [(name, record.ttl) for name in records for record in records[name]] == [(NAME, 30)]


async def test_a_record_on_a_later_page_is_seen(account: Account) -> None:
    zone = account.hosting.host("example.test")
    for number in range(210):
        account.hosting.put(zone, NAME, f"other-{number}")
    account.hosting.put(zone, NAME, VALUE)
    await account.provider.add(NAME, VALUE)
    await account.provider.remove(NAME, VALUE)
    assert len(account.hosting.values(NAME)) == 210


async def test_pages_have_an_end(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digitalocean, "MOST_PAGES", 3)
    account.hosting.host("example.test")
    record = {"id": 1, "type": "A", "name": "@", "data": "192.0.2.1"}
    links = {"pages": {"next": "https://elsewhere.test/v2/domains?page=2"}}
    page = status(200, json.dumps({"domain_records": [record], "links": links}))
    account.server.planned = [None, None, *[page] * 10]
    with pytest.raises(DnsProviderError, match="pages"):
        await account.provider.add(NAME, VALUE)


async def test_somebody_has_deleted_the_same_meanwhile(account: Account) -> None:
    account.hosting.host("example.test")
    await account.provider.add(NAME, VALUE)
    gone = status(404, '{"id": "not_found", "message": "gone"}')
    account.server.planned = [None, None, None, gone]
    await account.provider.remove(NAME, VALUE)


async def test_a_limit_ends_at_a_moment(account: Account) -> None:
    reset = str(int(time.time()) + 100)
    account.server.always = status(429, '{"id": "too_many_requests"}', RateLimit_Reset=reset)
    with pytest.raises(DnsProviderError) as caught:
        await account.provider.add(NAME, VALUE)
    assert caught.value.retry_after_seconds in range(95, 101)


@pytest.mark.parametrize("reset", ["", "soon", "1", "-1", "99999999999999999999"])
async def test_a_limit_may_end_at_no_moment(account: Account, reset: str) -> None:
    account.server.always = status(429, "{}", RateLimit_Reset=reset)
    with pytest.raises(DnsProviderError) as caught:
        await account.provider.add(NAME, VALUE)
    assert caught.value.retry_after_seconds in {None, 0}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (401, "does not know the API token"),
        (403, "needs to read, create and delete domains"),
        (422, "refused it .the zone is locked."),
    ],
)
async def test_refusals_in_words(account: Account, code: int, words: str) -> None:
    body = json.dumps({"id": "some_id", "message": "the zone is locked"})
    account.server.always = status(code, body)
    with pytest.raises(DnsProviderError, match=words) as caught:
        await account.provider.add(NAME, VALUE)
    assert not caught.value.transient


async def test_a_domain_that_was_not_asked_for_is_not_ours(account: Account) -> None:
    account.server.always = status(200, '{"domain": {"name": "another.test"}}')
    with pytest.raises(DnsProviderError, match="cannot be read"):
        await account.provider.add(NAME, VALUE)
