"""What holds for every provider, whatever its API looks like."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from services.acme.dns import (
    DnsProviderError,
    Probe,
    api,
    check_access,
    godaddy,
    open_provider,
    providers,
)
from tests.support.dns_providers import accounts
from tests.support.dns_providers.accounts import Account, Opened
from tests.support.dns_providers.faults import Faulty, drip, hang, huge, redirect, serving, status
from tests.support.dns_providers.route53 import Moto, moto, route53

NAME = "_acme-challenge.www.example.test"
FIRST, SECOND = "A" * 43, "b_-" * 14 + "c"
OTHER = "v=spf1 -all"

NO_ANSWERS: list[tuple[ASGIApp, str, bool]] = [
    (status(500), "failed .status 500.", True),
    (status(503, "<html>", Retry_After="7"), "failed .status 503.", True),
    (status(200, "[{"), "cannot be read", True),
    (status(200, '{"success": NaN}'), "cannot be read", True),
    (status(200, "[" * 100_000), "cannot be read", True),
    (status(200, '"text"'), "cannot be read", True),
    (status(200), "cannot be read", True),
    (status(400, "no JSON"), "refused", False),
    (status(200, "{}", Content_Encoding="gzip"), "packed", True),
    (huge(3_000_000), "over 2000000 octets", True),
]
"""Answers, what is said of them, and whether they are worth another try."""

PROVIDERS: dict[str, Opened] = {
    "cloudflare": accounts.cloudflare,
    "digitalocean": accounts.digitalocean,
    "godaddy": accounts.godaddy,
    "google": accounts.google,
}


@pytest.fixture(scope="module")
def running_moto() -> Iterator[Moto]:
    with moto() as running:
        yield running


@pytest.fixture(params=[*PROVIDERS, "aws"])
def opened(request: pytest.FixtureRequest) -> Opened:
    if request.param == "aws":
        return route53(request.getfixturevalue("running_moto"))
    return PROVIDERS[request.param]


@pytest.fixture
async def account(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Account]:
    monkeypatch.setattr(godaddy, "SETTLED_SECONDS", 0.2)
    async with opened() as account:
        yield account


# --- Records -------------------------------------------------------------------------------------


async def test_adds_a_record_and_removes_it(account: Account) -> None:
    account.hosting.host("example.test")
    await account.provider.add(NAME, FIRST)
    assert account.hosting.values(NAME) == [FIRST]
    await account.provider.remove(NAME, FIRST)
    assert account.hosting.values(NAME) == []


async def test_a_record_that_is_there_is_not_added_again(account: Account) -> None:
    account.hosting.host("example.test")
    for _ in range(2):
        await account.provider.add(NAME, FIRST)
    assert account.hosting.values(NAME) == [FIRST]


async def test_removes_what_was_removed_before_a_crash(account: Account) -> None:
    account.hosting.host("example.test")
    await account.provider.remove(NAME, FIRST)
    await account.provider.add(NAME, FIRST)
    for _ in range(2):
        await account.provider.remove(NAME, FIRST)
    assert account.hosting.values(NAME) == []


async def test_a_wildcard_and_the_name_above_it_share_a_name(account: Account) -> None:
    account.hosting.host("example.test")
    await account.provider.add(NAME, FIRST)
    await account.provider.add(NAME, SECOND)
    assert account.hosting.values(NAME) == [FIRST, SECOND]
    await account.provider.remove(NAME, FIRST)
    assert account.hosting.values(NAME) == [SECOND]
    await account.provider.remove(NAME, SECOND)
    assert account.hosting.values(NAME) == []


async def test_what_others_have_written_stays(account: Account) -> None:
    zone = account.hosting.host("example.test")
    account.hosting.put(zone, NAME, OTHER)
    await account.provider.add(NAME, FIRST)
    assert account.hosting.values(NAME) == [FIRST, OTHER]
    await account.provider.remove(NAME, FIRST)
    assert account.hosting.values(NAME) == [OTHER]


async def test_a_record_may_have_the_name_of_its_zone(account: Account) -> None:
    zone = account.hosting.host(NAME)
    account.hosting.host("example.test")
    account.hosting.put(zone, NAME, OTHER)
    await account.provider.add(NAME, FIRST)
    assert account.hosting.values(NAME) == [FIRST, OTHER]
    assert account.hosting.zones_with(NAME) == [zone]
    await account.provider.remove(NAME, FIRST)
    assert account.hosting.values(NAME) == [OTHER]


async def test_names_are_taken_in_any_case_and_with_a_dot(account: Account) -> None:
    account.hosting.host("example.test")
    await account.provider.add(NAME.upper() + ".", FIRST)
    assert account.hosting.values(NAME) == [FIRST]


async def test_those_who_write_at_once_lose_nothing(account: Account) -> None:
    zone = account.hosting.host("example.test")
    account.hosting.put(zone, NAME, OTHER)
    account.server.latency_seconds = 0.03
    values = [f"{number:x}" * 43 for number in range(5)]
    await account.provider.add(NAME, "gone")
    adding = (account.provider.add(NAME, value) for value in values)
    await asyncio.gather(*adding, account.provider.remove(NAME, "gone"))
    assert account.hosting.values(NAME) == sorted([*values, OTHER])
    await asyncio.gather(*(account.provider.remove(NAME, value) for value in values))
    assert account.hosting.values(NAME) == [OTHER]


async def test_the_same_written_twice_at_once(account: Account) -> None:
    account.hosting.host("example.test")
    account.server.latency_seconds = 0.02
    await asyncio.gather(*(account.provider.add(NAME, FIRST) for _ in range(3)))
    assert set(account.hosting.values(NAME)) == {FIRST}
    await asyncio.gather(*(account.provider.remove(NAME, FIRST) for _ in range(3)))
    assert account.hosting.values(NAME) == []


# --- Zones ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zones", "found"),
    [
        (["example.test", "www.example.test"], 1),
        (["www.example.test", "example.test"], 0),
        (["example.test", "a.www.example.test", "ww.example.test"], 0),
        (["xample.test", "example.test"], 1),
    ],
)
async def test_the_longest_zone_is_the_one(account: Account, zones: list[str], found: int) -> None:
    ids = [account.hosting.host(zone) for zone in zones]
    await account.provider.add(NAME, FIRST)
    assert account.hosting.zones_with(NAME) == [ids[found]]


async def test_without_a_zone_there_is_a_reason(account: Account) -> None:
    account.hosting.host("example.com")
    for call in (account.provider.add, account.provider.remove):
        with pytest.raises(DnsProviderError, match=f"hosts no zone for {NAME}") as caught:
            await call(NAME, FIRST)
        assert not caught.value.transient


# --- Credentials ---------------------------------------------------------------------------------


async def test_wrong_credentials_are_told_without_the_secret(account: Account) -> None:
    account.hosting.host("example.test")
    with pytest.raises(DnsProviderError) as caught:
        await account.stranger.add(NAME, FIRST)
    error = caught.value
    assert not error.transient
    assert re.search("does not know|does not let|does not accept|refused the", error.reason)
    texts = (str(error), repr(error), repr(account.credentials), repr(account.wrong))
    assert not [s for s in account.secrets for text in texts if s in text]
    assert account.hosting.values(NAME) == []


async def test_access_is_checked_by_a_record_that_is_gone_afterwards(account: Account) -> None:
    account.hosting.host("example.test")
    await check_access(account.provider, Probe.below("*.example.test"))
    assert account.hosting.values("_certwire-preflight.example.test") == []
    assert account.server.calls("GET") > 0
    written = [method for method, _ in account.server.asked if method != "GET"]
    assert len(written) >= 2
    with pytest.raises(DnsProviderError):
        await check_access(account.stranger, Probe.below("example.test"))


async def test_what_is_no_name_or_no_value_is_nowhere_asked(account: Account) -> None:
    for name, value in ((f"{NAME}/..", FIRST), ("", FIRST), (NAME, 'a"'), (NAME, "a b")):
        for call in (account.provider.add, account.provider.remove):
            with pytest.raises(ValueError, match="not a"):
                await call(name, value)
    assert account.server.asked == []


# --- Whatever goes wrong -------------------------------------------------------------------------


async def test_an_answer_that_is_none(account: Account) -> None:
    account.hosting.host("example.test")
    for fault, words, transient in NO_ANSWERS:
        account.server.always = fault
        with pytest.raises(DnsProviderError, match=words) as caught:
            await account.provider.add(NAME, FIRST)
        assert caught.value.transient is transient
        assert caught.value.reason.isprintable()


async def test_a_limit_says_when_to_come_back(account: Account) -> None:
    account.hosting.host("example.test")
    account.server.always = status(429, "{}", Retry_After="17")
    with pytest.raises(DnsProviderError, match="limits how often") as caught:
        await account.provider.add(NAME, FIRST)
    assert (caught.value.transient, caught.value.retry_after_seconds) == (True, 17)
    assert len(account.server.asked) == 1


async def test_a_redirect_is_not_followed(account: Account) -> None:
    account.hosting.host("example.test")
    elsewhere = Faulty(status(200, "{}"))
    async with serving(elsewhere) as url:
        account.server.always = redirect(f"{url}/steal")
        with pytest.raises(DnsProviderError, match="go elsewhere") as caught:
            await account.provider.add(NAME, FIRST)
    assert not caught.value.transient
    assert elsewhere.asked == []


@pytest.mark.parametrize("fault", [hang, drip])
async def test_an_answer_has_to_end(
    account: Account, fault: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "CALL_SECONDS", 0.3)
    account.hosting.host("example.test")
    account.server.always = fault
    with pytest.raises(DnsProviderError, match="does not answer in time") as caught:
        await account.provider.add(NAME, FIRST)
    assert caught.value.transient


async def test_all_calls_together_have_to_end(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "OPERATION_SECONDS", 0.2)
    account.hosting.host("example.test")
    account.server.always = hang
    with pytest.raises(DnsProviderError, match=r"took over 0\.2 s") as caught:
        await account.provider.remove(NAME, FIRST)
    assert caught.value.transient


async def test_nobody_is_there(account: Account) -> None:
    provider = open_provider(account.credentials, accounts.NOWHERE, account.http)
    with pytest.raises(DnsProviderError, match="cannot be reached") as caught:
        await provider.add(NAME, FIRST)
    assert caught.value.transient


async def test_a_lost_reply_to_a_write_is_made_up_for(account: Account) -> None:
    account.hosting.host("example.test")
    before = len(account.server.asked)
    await account.provider.add(NAME, FIRST)
    calls = [method for method, _ in account.server.asked[before:]]
    write = next(index for index, method in enumerate(calls) if method in {"POST", "PUT"} and index)
    await account.provider.remove(NAME, FIRST)
    account.server.planned = [*[None] * write, account.server.lost]
    with pytest.raises(DnsProviderError) as caught:
        await account.provider.add(NAME, FIRST)
    assert caught.value.transient
    assert account.hosting.values(NAME) == [FIRST]
    await account.provider.add(NAME, FIRST)
    assert account.hosting.values(NAME) == [FIRST]


async def test_a_request_carries_no_cookies() -> None:
    async with accounts.cloudflare() as account:
        account.http.cookies.set("session", "another's", domain="127.0.0.1")
        account.hosting.host("example.test")
        names: list[bytes] = []

        async def listening(scope: Scope, receive: Receive, send: Send) -> None:
            names.extend(name for name, _ in scope["headers"])
            await account.server.own(scope, receive, send)

        account.server.always = listening
        await account.provider.add(NAME, FIRST)
        assert b"authorization" in names
        assert b"cookie" not in names
