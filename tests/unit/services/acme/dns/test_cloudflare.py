"""Cloudflare: records as objects, pages, and error codes in words."""

import json
from collections.abc import AsyncIterator

import pytest
from starlette.types import ASGIApp

from services.acme.dns import DnsProviderError, cloudflare
from tests.support.dns_providers import accounts
from tests.support.dns_providers.accounts import Account
from tests.support.dns_providers.faults import status
from tests.support.dns_providers.hosting import MemoryHosting

NAME = "_acme-challenge.example.test"
VALUE = "A" * 43


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    async with accounts.cloudflare() as account:
        yield account


def hosting(account: Account) -> MemoryHosting:
    assert isinstance(account.hosting, MemoryHosting)
    return account.hosting


def refused(code: int, message: str = "said", http_status: int = 400) -> ASGIApp:
    errors = [{"code": code, "message": message}]
    envelope = {"success": False, "errors": errors, "messages": [], "result": None}
    return status(http_status, json.dumps(envelope))


async def test_the_record_has_the_lowest_ttl(account: Account) -> None:
    zone = hosting(account).zones[account.hosting.host("example.test")]
    await account.provider.add(NAME, VALUE)
    assert [record.ttl for record in zone.records[NAME]] == [60]


async def test_a_record_on_a_later_page_is_seen(account: Account) -> None:
    zone = account.hosting.host("example.test")
    for number in range(120):
        account.hosting.put(zone, NAME, f"other-{number}")
    account.hosting.put(zone, NAME, VALUE)
    await account.provider.add(NAME, VALUE)
    assert len(account.hosting.values(NAME)) == 121
    await account.provider.remove(NAME, VALUE)
    assert VALUE not in account.hosting.values(NAME)
    assert len(account.hosting.values(NAME)) == 120


async def test_pages_have_an_end(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudflare, "MOST_PAGES", 2)
    monkeypatch.setattr(cloudflare, "PAGE", 10)
    zone = account.hosting.host("example.test")
    for number in range(25):
        account.hosting.put(zone, NAME, f"other-{number}")
    with pytest.raises(DnsProviderError, match="pages"):
        await account.provider.add(NAME, VALUE)


async def test_a_zone_that_is_not_delegated_is_passed_over(account: Account) -> None:
    parent = account.hosting.host("example.test")
    hosting(account).host("www.example.test", active=False)
    await account.provider.add("_acme-challenge.www.example.test", VALUE)
    assert account.hosting.zones_with("_acme-challenge.www.example.test") == [parent]


async def test_a_zone_that_is_not_delegated_is_named_where_it_is_all(account: Account) -> None:
    hosting(account).host("example.test", active=False)
    with pytest.raises(DnsProviderError, match=r"; example\.test is there, but not active"):
        await account.provider.add(NAME, VALUE)


@pytest.mark.parametrize("code", [81057, 81058])
async def test_somebody_has_added_the_same_meanwhile(account: Account, code: int) -> None:
    account.hosting.host("example.test")
    account.server.planned = [None, None, None, refused(code)]
    await account.provider.add(NAME, VALUE)


async def test_somebody_has_deleted_the_same_meanwhile(account: Account) -> None:
    account.hosting.host("example.test")
    await account.provider.add(NAME, VALUE)
    account.server.planned = [None, None, None, refused(81044, http_status=404)]
    await account.provider.remove(NAME, VALUE)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (6003, "finds the API token malformed .error 6003."),
        (9109, "or not from this address .error 9109."),
        (10000, "Zone:Read and DNS:Edit"),
        (81045, "its quota is used up"),
        (4711, "refused it .error 4711: said."),
    ],
)
async def test_error_codes_in_words(account: Account, code: int, words: str) -> None:
    account.server.always = refused(code)
    with pytest.raises(DnsProviderError, match=words) as caught:
        await account.provider.add(NAME, VALUE)
    assert not caught.value.transient


async def test_a_failure_may_come_with_status_200(account: Account) -> None:
    account.server.always = refused(10000, http_status=200)
    with pytest.raises(DnsProviderError, match="does not let this API token"):
        await account.provider.add(NAME, VALUE)


async def test_a_limit_may_be_a_code(account: Account) -> None:
    account.server.always = refused(971)
    with pytest.raises(DnsProviderError, match="limits how often") as caught:
        await account.provider.add(NAME, VALUE)
    assert caught.value.transient


async def test_words_with_the_token_in_them_are_not_repeated(account: Account) -> None:
    token = account.secrets[0]
    account.server.always = refused(4711, f"what is\n{token}?")
    with pytest.raises(DnsProviderError, match="its words are left out") as caught:
        await account.provider.add(NAME, VALUE)
    assert token not in caught.value.reason


@pytest.mark.parametrize("zone_id", ["../../user", "", "a" * 33, "A" * 32, "%2e%2e"])
async def test_an_id_that_is_none_goes_into_no_address(account: Account, zone_id: str) -> None:
    zone = {"id": zone_id, "name": "example.test", "status": "active"}
    account.server.always = status(200, json.dumps({"success": True, "result": [zone]}))
    with pytest.raises(DnsProviderError, match="cannot be read"):
        await account.provider.add(NAME, VALUE)
    assert {path for _, path in account.server.asked} == {"/client/v4/zones"}


async def test_zones_that_were_not_asked_for_are_not_ours(account: Account) -> None:
    account.hosting.host("another.test")
    zone = {"id": "a" * 32, "name": "another.test", "status": "active"}
    account.server.always = status(200, json.dumps({"success": True, "result": [zone]}))
    with pytest.raises(DnsProviderError, match="hosts no zone"):
        await account.provider.add(NAME, VALUE)
