"""Google Cloud DNS: a service account's tokens, and changes under a condition."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from starlette.types import ASGIApp

from contracts.dns import GoogleCredentials, GoogleServiceAccount
from services.acme.dns import DnsProviderError, google, open_provider, record_sets
from tests.support.dns_providers import accounts
from tests.support.dns_providers.accounts import Account
from tests.support.dns_providers.faults import status
from tests.support.dns_providers.google import EMAIL, PROJECT, GoogleApi, service_account

NAME = "_acme-challenge.example.test"
VALUE = "A" * 43


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    async with accounts.google() as account:
        yield account


def pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> str:
    encryption = encryption or NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def failed(code: int, reason: str, message: str = "said") -> ASGIApp:
    errors = [{"message": message, "domain": "global", "reason": reason}]
    error = {"code": code, "message": message, "errors": errors}
    return status(code, json.dumps({"error": error}))


def api(account: Account) -> GoogleApi:
    assert isinstance(account.api, GoogleApi)
    return account.api


def tokens_asked_for(account: Account) -> int:
    return account.server.asked.count(("POST", "/token"))


async def test_a_token_serves_for_many_calls(account: Account) -> None:
    account.hosting.host("example.test")
    provider = account.provider
    await asyncio.gather(*(provider.add(NAME, value * 43) for value in "AB"))
    assert tokens_asked_for(account) == 1


async def test_a_token_is_not_used_to_its_end(account: Account) -> None:
    account.hosting.host("example.test")
    provider = account.provider
    api(account).token_seconds = google.MARGIN_SECONDS
    await provider.add(NAME, VALUE)
    calls = len(account.server.asked)
    assert tokens_asked_for(account) == calls / 2


async def test_a_token_that_is_refused_is_not_used_again(account: Account) -> None:
    account.hosting.host("example.test")
    provider = account.provider
    await provider.add(NAME, VALUE)
    api(account).forget_tokens()
    with pytest.raises(DnsProviderError, match="does not accept the access token"):
        await provider.remove(NAME, VALUE)
    await provider.remove(NAME, VALUE)
    assert account.hosting.values(NAME) == []


@pytest.mark.parametrize(
    "private_key",
    [
        "",
        "no PEM",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(65_537, 2048), BestAvailableEncryption(b"password")),
    ],
    ids=["nothing", "no PEM", "no key", "EC", "encrypted"],
)
async def test_a_key_that_is_none(account: Account, private_key: str) -> None:
    file = GoogleServiceAccount(client_email=EMAIL, private_key=private_key)
    credentials = GoogleCredentials(project_id=PROJECT, credentials=file)
    provider = open_provider(credentials, account.endpoints, account.http)
    with pytest.raises(DnsProviderError, match="no RSA key that can be read") as caught:
        await provider.add(NAME, VALUE)
    assert not caught.value.transient
    assert account.server.asked == []


async def test_a_key_that_takes_too_long(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google, "LARGEST_KEY_BITS", 1024)
    with pytest.raises(DnsProviderError, match="no RSA key that can be read"):
        await account.provider.add(NAME, VALUE)


async def test_an_account_that_google_does_not_know(account: Account) -> None:
    file = {**service_account(accounts.google_keys()[0]), "client_email": "a@b"}
    credentials = GoogleCredentials(
        project_id=PROJECT, credentials=GoogleServiceAccount.model_validate(file)
    )
    provider = open_provider(credentials, account.endpoints, account.http)
    with pytest.raises(
        DnsProviderError,
        match=r"refused the service account \(invalid_grant: Invalid grant: account not found\)",
    ):
        await provider.add(NAME, VALUE)


@pytest.mark.parametrize(
    "token",
    [
        {"access_token": "a\nb", "expires_in": 1},
        {"access_token": "", "expires_in": 1},
        {"access_token": "a" * 10_000, "expires_in": 1},
        {"access_token": "a", "expires_in": -1},
        {"access_token": "a", "expires_in": "1"},
        {"access_token": "a"},
    ],
)
async def test_a_token_that_is_none(account: Account, token: dict[str, object]) -> None:
    account.server.always = status(200, json.dumps(token))
    with pytest.raises(DnsProviderError, match="cannot be read"):
        await account.provider.add(NAME, VALUE)
    assert account.server.asked == [("POST", "/token")]


async def test_the_key_is_in_no_words(account: Account) -> None:
    line = service_account(accounts.google_keys()[0])["private_key"].splitlines()[3]
    body = json.dumps({"error": "invalid", "error_description": f"what is {line}?"})
    account.server.always = status(400, body)
    with pytest.raises(DnsProviderError, match="its words are left out") as caught:
        await account.provider.add(NAME, VALUE)
    assert line not in caught.value.reason


async def test_the_access_token_is_in_no_words(account: Account) -> None:
    token = json.dumps({"access_token": "access-token", "expires_in": 100})
    account.server.planned = [status(200, token), failed(400, "x", "what is access-token?")]
    with pytest.raises(DnsProviderError, match="its words are left out"):
        await account.provider.add(NAME, VALUE)


async def test_private_zones_are_passed_over(account: Account) -> None:
    parent = account.hosting.host("example.test")
    account.hosting.host("www.example.test", private=True)
    await account.provider.add("_acme-challenge.www.example.test", VALUE)
    assert account.hosting.zones_with("_acme-challenge.www.example.test") == [parent]


async def test_of_zones_with_one_name_every_public_one_gets_the_record(account: Account) -> None:
    api(account).page = 1
    public = [account.hosting.host("example.test")]
    account.hosting.host("example.test", private=True)
    public.append(account.hosting.host("example.test"))
    await account.provider.add(NAME, VALUE)
    assert account.hosting.zones_with(NAME) == public
    await account.provider.remove(NAME, VALUE)
    assert account.hosting.zones_with(NAME) == []


async def test_pages_have_an_end(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google, "MOST_PAGES", 3)
    account.hosting.host("example.test")
    page = status(200, '{"managedZones": [], "nextPageToken": "next"}')
    account.server.planned = [None, *[page] * 10]
    with pytest.raises(DnsProviderError, match="pages"):
        await account.provider.add(NAME, VALUE)


@pytest.mark.parametrize(
    ("fault", "words", "transient"),
    [
        (failed(403, "forbidden"), r"needs roles/dns\.admin.*project-1", False),
        (failed(403, "accessNotConfigured"), "not switched on in the project project-1", False),
        (failed(403, "rateLimitExceeded"), "limits how often", True),
        (failed(403, "quotaExceeded"), "limits how often", True),
        (failed(404, "notFound"), "does not find what it is asked for", False),
        (failed(400, "invalid"), "refused it, in the project project-1 .said.", False),
    ],
)
async def test_refusals_in_words(
    account: Account, fault: ASGIApp, words: str, *, transient: bool
) -> None:
    account.server.planned = [None, fault]
    with pytest.raises(DnsProviderError, match=words) as caught:
        await account.provider.add(NAME, VALUE)
    assert caught.value.transient is transient


@pytest.mark.parametrize("code", [409, 412, 404])
async def test_a_refusal_that_no_change_explains_is_told(
    account: Account, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_sets, "PAUSE_SECONDS", 0)
    account.hosting.host("example.test")
    look_for_zones: list[ASGIApp | None] = [None] * 3
    account.server.planned = [*look_for_zones, *[None, failed(code, "conditionNotMet")] * 3]
    words = f"the records of {NAME} cannot be set: said"
    with pytest.raises(DnsProviderError, match=words) as caught:
        await account.provider.add(NAME, VALUE)
    assert not caught.value.transient


async def test_a_set_with_a_routing_policy_is_left_alone(account: Account) -> None:
    account.hosting.host("example.test")
    routed = {"name": f"{NAME}.", "type": "TXT", "ttl": 1, "routingPolicy": {"kind": "wrr"}}
    sets = status(200, json.dumps({"rrsets": [routed]}))
    account.server.planned = [None, None, None, sets]
    with pytest.raises(DnsProviderError, match="routing policy"):
        await account.provider.add(NAME, VALUE)
