"""GoDaddy: sets that are written without any condition."""

import json
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from services.acme.dns import DnsProviderError, godaddy
from tests.support.dns_providers import accounts
from tests.support.dns_providers.accounts import Account
from tests.support.dns_providers.faults import status
from tests.support.dns_providers.hosting import MemoryHosting

NAME = "_acme-challenge.example.test"
VALUE = "A" * 43


@pytest.fixture
async def account(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Account]:
    monkeypatch.setattr(godaddy, "SETTLED_SECONDS", 0.01)
    async with accounts.godaddy() as account:
        yield account


def records(account: Account, zone_id: str) -> list[tuple[str, int]]:
    assert isinstance(account.hosting, MemoryHosting)
    found = account.hosting.zones[zone_id].records.get(NAME, [])
    return sorted((record.value, record.ttl) for record in found)


async def test_others_keep_their_ttl(account: Account) -> None:
    zone = account.hosting.host("example.test")
    account.hosting.put(zone, NAME, "other")
    await account.provider.add(NAME, VALUE)
    assert records(account, zone) == [(VALUE, 600), ("other", 3600)]


async def test_an_empty_record_of_older_programs_goes(account: Account) -> None:
    zone = account.hosting.host("example.test")
    account.hosting.put(zone, NAME, "")
    await account.provider.add(NAME, VALUE)
    assert records(account, zone) == [(VALUE, 600)]


async def test_the_last_record_is_deleted_as_a_set_of_none_is_refused(account: Account) -> None:
    account.hosting.host("example.test")
    await account.provider.add(NAME, VALUE)
    await account.provider.remove(NAME, VALUE)
    assert account.server.calls("DELETE") == 1
    assert account.server.calls("PUT") == 1


async def test_what_another_has_taken_away_is_written_again(account: Account) -> None:
    zone_id = account.hosting.host("example.test")
    thieves = 2

    async def writing(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal thieves
        await account.server.own(scope, receive, send)
        if scope["method"] == "PUT" and thieves:
            thieves -= 1
            assert isinstance(account.hosting, MemoryHosting)
            account.hosting.replace(account.hosting.zones[zone_id], NAME, [("other", 600)])

    account.server.always = writing
    await account.provider.add(NAME, VALUE)
    assert records(account, zone_id) == [(VALUE, 600), ("other", 600)]


async def test_a_value_that_never_stays_is_given_up(account: Account) -> None:
    account.hosting.host("example.test")

    async def forgetful(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "PUT":
            await status(200)(scope, receive, send)
        else:
            await account.server.own(scope, receive, send)

    account.server.always = forgetful
    with pytest.raises(DnsProviderError, match="others keep changing") as caught:
        await account.provider.add(NAME, VALUE)
    assert caught.value.transient
    assert account.server.calls("PUT") == godaddy.ATTEMPTS


@pytest.mark.parametrize(
    ("code", "problem", "words"),
    [
        (401, "UNABLE_TO_AUTHENTICATE", "does not know the API key and secret"),
        (403, "ACCESS_DENIED", "accounts with ten domains or more"),
        (409, "CONFLICT", "refused it .CONFLICT: said."),
    ],
)
async def test_refusals_in_words(account: Account, code: int, problem: str, words: str) -> None:
    account.server.always = status(code, json.dumps({"code": problem, "message": "said"}))
    with pytest.raises(DnsProviderError, match=words) as caught:
        await account.provider.add(NAME, VALUE)
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ('{"code": "TOO_MANY_REQUESTS", "retryAfterSec": 30}', 30),
        ('{"code": "TOO_MANY_REQUESTS", "retryAfterSec": -1}', 0),
        ('{"code": "TOO_MANY_REQUESTS", "retryAfterSec": 99999999999999999999}', 86_400),
        ('{"code": "TOO_MANY_REQUESTS", "retryAfterSec": "soon"}', None),
        ("", None),
    ],
)
async def test_a_limit_is_in_the_body(account: Account, body: str, seconds: int | None) -> None:
    account.server.always = status(429, body)
    with pytest.raises(DnsProviderError, match="limits how often") as caught:
        await account.provider.add(NAME, VALUE)
    assert (caught.value.transient, caught.value.retry_after_seconds) == (True, seconds)
