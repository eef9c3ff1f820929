"""A CA that keeps to HTTP and breaks the rules of ACME: refused, and nothing else is asked."""

import copy
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from services.acme.client import (
    Account,
    AcmeClient,
    AcmeProblem,
    AuthorizationStatus,
    CaMisbehaves,
    CaUnavailable,
    ChallengeStatus,
    Eab,
    NotOfferedError,
    OrderStatus,
)
from services.acme.client.answers import RETRY_AFTER_MOST
from services.acme.client.client import ALTERNATES_LIMIT, NONCE_RETRIES
from tests.support.authority import Authority
from tests.support.csr import csr_pem, new_key
from tests.support.hostile_ca import CHAIN, DOMAIN, JSON, PROBLEM, TOKEN, HostileCa, Reply, problem
from tests.unit.services.acme.client.conftest import Elsewhere

FOREIGN = [
    "http://{}/x",
    "https://{}/x",
    "//{}/x",
    "{origin}@{}/x",
    "{origin}.example.com/x",
    "{origin}#/x",
    "{origin}/x#fragment",
    "{origin}/x y",
    "{origin}/x\r\nHost: {}",
    "{origin}/x\\y",
    "https://user:password@{}/x",
    "file:///etc/passwd",
    "/order",
    "",
    7,
    ["{origin}/x"],
]
"""Addresses that are not of the directory's origin, or are none."""


def foreign(hostile: HostileCa, elsewhere: Elsewhere) -> list[object]:
    """Return all of them."""
    return [
        url.replace("{origin}", hostile.origin).replace("{}", elsewhere.address)
        if isinstance(url, str)
        else url
        for url in FOREIGN
    ]


def in_a_header(hostile: HostileCa, elsewhere: Elsewhere) -> list[str]:
    """Return those that can stand in a header."""
    urls = foreign(hostile, elsewhere)
    return [url for url in urls if isinstance(url, str) and url and "\n" not in url]


Step = Callable[[AcmeClient, Account, HostileCa], Awaitable[object]]


async def directory(client: AcmeClient, _account: Account, _ca: HostileCa) -> object:
    return await client.directory()


async def new_order(client: AcmeClient, account: Account, _ca: HostileCa) -> object:
    return await client.new_order(account, [DOMAIN])


async def order(client: AcmeClient, account: Account, ca: HostileCa) -> object:
    return await client.order(account, ca.url("order"))


async def authorization(client: AcmeClient, account: Account, ca: HostileCa) -> object:
    return await client.authorization(account, ca.url("authorization"))


async def answer(client: AcmeClient, account: Account, ca: HostileCa) -> object:
    return await client.answer(account, ca.url("challenge"))


async def finalize(client: AcmeClient, account: Account, ca: HostileCa) -> object:
    return await client.finalize(account, ca.url("finalize"), b"a CSR")


async def renewal_info(client: AcmeClient, _account: Account, _ca: HostileCa) -> object:
    return await client.renewal_info("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")


# --- What a good CA says --------------------------------------------------------------------------


async def test_directory(hostile: HostileCa, client: AcmeClient) -> None:
    hostile.directory["meta"] = {
        "termsOfService": "https://example.com/terms",
        "website": "https://example.com",
        "caaIdentities": ["ca.example.com", "example.com"],
        "externalAccountRequired": True,
        "profiles": {"classic": "As ever", "short": "https://example.com/short"},
        "unknown": {"to": "us"},
    }
    said = await client.directory()
    assert said.terms_of_service == "https://example.com/terms"
    assert said.website == "https://example.com"
    assert said.caa_identities == ("ca.example.com", "example.com")
    assert said.external_account_required
    assert said.profiles == {"classic": "As ever", "short": "https://example.com/short"}
    assert said.renewal_info == hostile.url("ari")


async def test_order(hostile: HostileCa, client: AcmeClient, account: Account) -> None:
    hostile.order.update(
        status="invalid",
        expires="2030-01-02T03:04:05.123456789+01:00",
        error={"type": "urn:ietf:params:acme:error:caa", "detail": "forbids us"},
        replaces="aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE",
        profile="short",
    )
    hostile.replies["/order"] = Reply(hostile.order, headers=[("Retry-After", "5")])
    said = await client.order(account, hostile.url("order"))
    assert said.url == hostile.url("order")
    assert said.status is OrderStatus.INVALID
    assert said.expires == datetime(2030, 1, 2, 2, 4, 5, 123456, tzinfo=UTC)
    assert said.identifiers == (DOMAIN,)
    assert said.error is not None
    assert str(said.error) == "caa: forbids us"
    assert said.retry_after_seconds == 5
    assert (said.replaces, said.profile) == ("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", "short")


async def test_what_was_ordered(hostile: HostileCa, client: AcmeClient, account: Account) -> None:
    await client.new_order(account, ["WWW.example.com"], profile="short", replaces="a.b")
    (request,) = hostile.asked_at("/new-order")
    assert request.protected["kid"] == account.url
    assert request.protected["url"] == hostile.url("new-order")
    assert request.payload == {
        "identifiers": [{"type": "dns", "value": "WWW.example.com"}],
        "profile": "short",
        "replaces": "a.b",
    }


async def test_authorization(hostile: HostileCa, client: AcmeClient, account: Account) -> None:
    hostile.authorization.update(wildcard=True, expires="2030-01-01T00:00:00Z")
    device = {"type": "device-attest-01", "url": hostile.url("device"), "status": "pending"}
    hostile.authorization["challenges"].append(device)
    hostile.replies["/authorization"] = Reply(hostile.authorization, headers=[("Retry-After", "1")])
    said = await client.authorization(account, hostile.url("authorization"))
    assert (said.identifier, said.wildcard) == (DOMAIN, True)
    assert said.status is AuthorizationStatus.PENDING
    assert said.retry_after_seconds == 1
    first, second = said.challenges
    assert (first.type, first.token) == ("http-01", TOKEN)
    assert first.status is ChallengeStatus.PENDING
    assert (second.type, second.token) == ("device-attest-01", None)


async def test_finalising_without_a_location(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.order["status"] = "processing"
    said = await client.finalize(account, hostile.url("finalize"), b"a CSR")
    assert (said.url, said.status) == ("", OrderStatus.PROCESSING)


async def test_pending_for_ever_is_asked_once_a_call(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/order"] = Reply(hostile.order, headers=[("Retry-After", "0")])
    for _ in range(3):
        said = await client.order(account, hostile.url("order"))
        assert (said.status, said.retry_after_seconds) == (OrderStatus.PENDING, 0)
    assert len(hostile.asked_at("/order")) == 3


# --- Addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"]
)
async def test_a_directory_leads_nowhere_else(
    hostile: HostileCa, client: AcmeClient, elsewhere: Elsewhere, name: str
) -> None:
    for url in foreign(hostile, elsewhere):
        hostile.directory[name] = url
        with pytest.raises(CaMisbehaves, match=name):
            await client.directory()
    assert {request.path for request in hostile.asked} == {"/dir"}


@pytest.mark.parametrize("path", ["account", "new-order", "finalize"])
async def test_a_location_leads_nowhere_else(
    hostile: HostileCa, client: AcmeClient, account: Account, elsewhere: Elsewhere, path: str
) -> None:
    steps: dict[str, Callable[[], Awaitable[object]]] = {
        "account": lambda: client.register(account.key, None, None),
        "new-order": lambda: client.new_order(account, [DOMAIN]),
        "finalize": lambda: client.finalize(account, hostile.url("finalize"), b"a CSR"),
    }
    body = {"status": "valid"} if path == "account" else hostile.order
    for url in in_a_header(hostile, elsewhere):
        hostile.replies[f"/{path}"] = Reply(body, 201, headers=[("Location", url)])
        with pytest.raises(CaMisbehaves, match="elsewhere"):
            await steps[path]()
    assert {request.path for request in hostile.asked} == {"/dir", "/nonce", f"/{path}"}


async def test_a_location_is_there(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/account"] = Reply({"status": "valid"}, 201)
    hostile.replies["/new-order"] = Reply(hostile.order, 201)
    with pytest.raises(CaMisbehaves, match="elsewhere"):
        await client.register(account.key, None, None)
    with pytest.raises(CaMisbehaves, match="elsewhere"):
        await client.new_order(account, [DOMAIN])


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("finalize", new_order),
        ("finalize", order),
        ("certificate", order),
        ("authorizations", order),
        ("url", authorization),
        ("url", answer),
    ],
)
async def test_nothing_leads_elsewhere(
    hostile: HostileCa,
    client: AcmeClient,
    account: Account,
    elsewhere: Elsewhere,
    step: Step,
    name: str,
) -> None:
    document = hostile.challenge if name == "url" else hostile.order
    for url in foreign(hostile, elsewhere):
        document[name] = [hostile.url("x"), url] if name == "authorizations" else url
        with pytest.raises(CaMisbehaves, match=name):
            await step(client, account, hostile)
    assert len({request.path for request in hostile.asked}) == 3


async def test_no_alternate_chain_is_fetched_elsewhere(
    hostile: HostileCa, client: AcmeClient, account: Account, elsewhere: Elsewhere
) -> None:
    for url in in_a_header(hostile, elsewhere):
        link = ("Link", f'<{url}>;rel="alternate"')
        hostile.replies["/certificate"] = Reply(hostile.chain, content_type=CHAIN, headers=[link])
        assert await client.certificate(account, hostile.url("certificate")) == hostile.chain
        with pytest.raises(CaMisbehaves, match="elsewhere"):
            await client.certificate(account, hostile.url("certificate"), "Another root")
    assert {request.path for request in hostile.asked} == {"/dir", "/nonce", "/certificate"}


# --- Members --------------------------------------------------------------------------------------


TOKENS: list[object] = [
    "../../../etc/passwd-of-a-server",
    "a-token-with/a-separator",
    "a-token-with\\a-separator",
    "a-token.of-two-parts-in-all",
    "a-token-with-an-end\n",
    "\xe4-token-of-other-characters",
    "%2e%2e%2fa-token-of-a-kind",
    "x" * 15,
    "x" * 129,
    "",
    None,
    17,
]


@pytest.mark.parametrize("kind", ["http-01", "dns-01"])
async def test_a_token_is_base64url(
    hostile: HostileCa, client: AcmeClient, account: Account, kind: str
) -> None:
    for token in TOKENS:
        hostile.challenge.update(type=kind, token=token)
        with pytest.raises(CaMisbehaves, match="'token'"):
            await client.authorization(account, hostile.url("authorization"))
    for token in ("x" * 16, "x" * 128, "AZaz09-_AZaz09-_"):
        hostile.challenge["token"] = token
        said = await client.authorization(account, hostile.url("authorization"))
        assert said.challenges[0].token == token


LONG = "x" * 2000
EARLIEST = "0001-01-01T00:00:00+23:59"
"""Before the first moment that can be told in UTC."""
WRONG: dict[str, tuple[Step, dict[str, list[object]]]] = {
    "directory": (
        directory,
        {
            "newNonce": [None],
            "newAccount": [None],
            "newOrder": [None],
            "meta": ["text", []],
            "meta.profiles": ["x", {"a name": ""}, {"name": 1}, {f"n{n}": "" for n in range(51)}],
            "meta.externalAccountRequired": ["yes", 1],
            "meta.termsOfService": [LONG, 1],
            "meta.website": [LONG, {}],
            "meta.caaIdentities": ["example.com", [1], ["example.com"] * 51],
        },
    ),
    "order": (
        order,
        {
            "status": [None, "done", "", 1, ["valid"], {}, "valid", LONG],
            "expires": ["tomorrow", 1, "2030-01-01", "2030-13-01T00:00:00Z", EARLIEST],
            "identifiers": [None, DOMAIN, [DOMAIN], [{"type": "ip", "value": "::1"}]],
            "authorizations": [None, "text", [1], ["https://127.0.0.1/x"] * 101],
            "finalize": [None],
            "replaces": [1, LONG],
            "profile": [1, "two words", "x" * 65],
        },
    ),
    "authorization": (
        authorization,
        {
            "identifier": [
                None,
                DOMAIN,
                {"type": "dns"},
                *(
                    {"type": "dns", "value": value}
                    for value in ("../x", "a..b", "x" * 254, "a.example\n", "\xe4.example")
                ),
            ],
            "status": [None, "ready"],
            "wildcard": ["true", 0],
            "challenges": [None, {}, ["x"], [None]],
        },
    ),
    "challenge": (answer, {"type": [None, 1, "", "x y"], "status": [None, "ready"]}),
}


@pytest.mark.parametrize(
    ("what", "name"), [(what, name) for what, (_, names) in WRONG.items() for name in names]
)
async def test_no_member_is_taken_as_it_comes(
    hostile: HostileCa, client: AcmeClient, account: Account, what: str, name: str
) -> None:
    document: dict[str, Any] = getattr(hostile, what)
    step, names = WRONG[what]
    *outer, last = name.split(".")
    for each in outer:
        document = document.setdefault(each, {})
    for value in names[name]:
        document[last] = value
        with pytest.raises(CaMisbehaves) as refused:
            await step(client, account, hostile)
        assert len(refused.value.reason) <= 500


async def test_there_are_not_too_many_challenges(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.authorization["challenges"] *= 21
    with pytest.raises(CaMisbehaves, match="challenges"):
        await client.authorization(account, hostile.url("authorization"))


@pytest.mark.parametrize("names", [["other.example.com"], [DOMAIN, "other.example.com"], []])
async def test_an_order_is_for_what_was_ordered(
    hostile: HostileCa, client: AcmeClient, account: Account, names: list[str]
) -> None:
    hostile.order["identifiers"] = [{"type": "dns", "value": name} for name in names]
    with pytest.raises(CaMisbehaves, match="other names"):
        await client.new_order(account, [DOMAIN])


NO_OBJECTS = [
    b"",
    b"{",
    b"[]",
    b'"text"',
    b"null",
    b"NaN",
    b'{"a": NaN}',
    b'{"newNonce": 1, "newNonce": 2}',
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"a": ' + b"9" * 60_000 + b"}",
    '{"a": "x"}'.encode("utf-16"),
    b'{"a": "\xff"}',
    b'{"a": "\\ud800"}',
    b"<html></html>",
]


async def test_what_is_no_json(hostile: HostileCa, client: AcmeClient) -> None:
    for body in NO_OBJECTS:
        hostile.replies["/dir"] = Reply(body)
        with pytest.raises(CaMisbehaves, match="the directory is not a JSON object"):
            await client.directory()


@pytest.mark.parametrize("step", [directory, new_order, order, authorization, answer, finalize])
async def test_json_says_that_it_is(
    hostile: HostileCa, client: AcmeClient, account: Account, step: Step
) -> None:
    if step is not directory:
        await client.directory()
    for content_type in ("text/html", "", "application/jsonp", PROBLEM, CHAIN):
        for reply in hostile.replies.values():
            assert isinstance(reply, Reply)
            reply.content_type = content_type
        with pytest.raises(CaMisbehaves, match="instead of JSON"):
            await step(client, account, hostile)


async def test_a_content_type_may_have_parameters(hostile: HostileCa, client: AcmeClient) -> None:
    hostile.replies["/dir"] = Reply(
        hostile.directory, content_type="Application/JSON; charset=utf8"
    )
    assert (await client.directory()).new_order == hostile.url("new-order")


# --- Statuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [1, 10_000])
async def test_trouble_of_the_ca(
    hostile: HostileCa, client: AcmeClient, account: Account, lines: int
) -> None:
    page = "<html>sorry</html>" * lines
    for status in (500, 502, 503, 504, 520):
        hostile.replies["/order"] = Reply(page, status, "text/html", [("Retry-After", "120")])
        with pytest.raises(CaUnavailable) as said:
            await client.order(account, hostile.url("order"))
        assert said.value.reason == f"the CA answered {status}"
        assert said.value.retry_after_seconds == 120


@pytest.mark.parametrize("kind", ["rateLimited", "serverInternal"])
async def test_what_passes(
    hostile: HostileCa, client: AcmeClient, account: Account, kind: str
) -> None:
    for status in (400, 403, 429, 500, 503):
        refused = problem(kind, "too many new orders", status)
        refused.headers.append(("Retry-After", "30"))
        hostile.replies["/new-order"] = refused
        with pytest.raises(CaUnavailable, match=f"{kind}: too many new orders") as said:
            await client.new_order(account, [DOMAIN])
        assert said.value.retry_after_seconds == 30


async def test_too_many_requests_in_the_words_of_a_proxy(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/order"] = Reply("slow down", 429, "text/plain")
    with pytest.raises(CaUnavailable, match="429") as said:
        await client.order(account, hostile.url("order"))
    assert said.value.retry_after_seconds is None


async def test_a_refusal(hostile: HostileCa, client: AcmeClient, account: Account) -> None:
    hostile.replies["/new-order"] = problem(
        "rejectedIdentifier",
        "not all\r\nof \x1b[31mthem\u202e",
        403,
        subproblems=[
            {
                "type": "urn:ietf:params:acme:error:caa",
                "detail": "CAA forbids it",
                "identifier": {"type": "dns", "value": DOMAIN},
                "subproblems": [{}],
            }
        ],
    )
    with pytest.raises(AcmeProblem) as refused:
        await client.new_order(account, [DOMAIN])
    error = refused.value
    assert (error.type, error.detail, error.status) == (
        "rejectedIdentifier",
        "not all of [31mthem",
        403,
    )
    assert str(error) == "rejectedIdentifier: not all of [31mthem"
    assert {name: str(each) for name, each in error.subproblems.items()} == {
        DOMAIN: "caa: CAA forbids it"
    }


@pytest.mark.parametrize(
    "reply",
    [
        Reply("not found", 404, "text/plain"),
        Reply("{", 400, PROBLEM),
        Reply({"type": "urn:ietf:params:acme:error:malformed"}, 400, JSON),
        Reply("", 418),
    ],
)
async def test_a_refusal_says_why(
    hostile: HostileCa, client: AcmeClient, account: Account, reply: Reply
) -> None:
    hostile.replies["/order"] = reply
    with pytest.raises(CaMisbehaves, match="without saying why"):
        await client.order(account, hostile.url("order"))


@pytest.mark.parametrize("body", ["[]", "7", "{}", '{"type": 1, "detail": [], "subproblems": 3}'])
async def test_a_problem_without_words_is_a_refusal(
    hostile: HostileCa, client: AcmeClient, account: Account, body: str
) -> None:
    hostile.replies["/order"] = Reply(body, 400, PROBLEM)
    with pytest.raises(AcmeProblem) as refused:
        await client.order(account, hostile.url("order"))
    assert (refused.value.type, refused.value.detail) == ("about:blank", "")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1000000000000", RETRY_AFTER_MOST),
        ("9" * 5000, RETRY_AFTER_MOST),
        ("-1", None),
        ("x", None),
    ],
)
async def test_retry_after_is_bounded(
    hostile: HostileCa, client: AcmeClient, account: Account, said: str, seconds: int | None
) -> None:
    hostile.replies["/order"] = Reply(hostile.order, headers=[("Retry-After", said)])
    assert (await client.order(account, hostile.url("order"))).retry_after_seconds == seconds


async def test_retry_after_may_be_a_date(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    hostile.replies["/order"] = Reply("", 503, headers=[("Retry-After", date)])
    with pytest.raises(CaUnavailable) as said:
        await client.order(account, hostile.url("order"))
    assert said.value.retry_after_seconds is not None
    assert 580 <= said.value.retry_after_seconds <= 600


# --- Nonces and the directory ---------------------------------------------------------------------


async def test_a_nonce_is_used_once(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    for _ in range(3):
        await client.order(account, hostile.url("order"))
    nonces = [request.protected["nonce"] for request in hostile.asked_at("/order")]
    assert nonces == ["nonce-2", "nonce-3", "nonce-4"]
    assert len(hostile.asked_at("/nonce")) == 1


async def test_the_nonce_of_the_refusal_is_tried(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    refusals = [problem("badNonce", status=400) for _ in range(NONCE_RETRIES)]
    hostile.replies["/order"] = [*refusals, Reply(hostile.order)]
    assert (await client.order(account, hostile.url("order"))).url == hostile.url("order")
    nonces = [request.protected["nonce"] for request in hostile.asked_at("/order")]
    assert nonces == [f"nonce-{number}" for number in range(2, 3 + NONCE_RETRIES)]
    assert len(hostile.asked_at("/nonce")) == 1


async def test_a_ca_that_takes_no_nonce_is_given_up(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/order"] = problem("badNonce", status=400)
    with pytest.raises(CaUnavailable, match="nonce"):
        await client.order(account, hostile.url("order"))
    assert len(hostile.asked_at("/order")) == 1 + NONCE_RETRIES


async def test_what_is_no_nonce(hostile: HostileCa, client: AcmeClient, account: Account) -> None:
    for nonce in ("", "a b", "a/b", "x" * 513, "\xe4"):
        hostile.replies["/nonce"] = Reply(headers=[("Replay-Nonce", nonce)])
        with pytest.raises(CaMisbehaves, match="no nonce"):
            await client.order(account, hostile.url("order"))


async def test_the_directory_is_asked_once(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/dir"] = [Reply("", 500), Reply(hostile.directory)]
    with pytest.raises(CaUnavailable):
        await client.directory()
    for _ in range(3):
        await client.new_order(account, [DOMAIN])
    assert len(hostile.asked_at("/dir")) == 2


# --- Accounts -------------------------------------------------------------------------------------


async def test_an_external_account_that_may_be_used_once(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    made = hostile.replies["/account"]
    assert isinstance(made, Reply)
    hostile.replies["/account"] = [problem("unauthorized", "used before"), made]
    eab = Eab("kid", b"a key")
    assert await client.register(account.key, "admin@example.com", eab) == account
    first, second = hostile.asked_at("/account")
    assert first.payload["externalAccountBinding"]
    assert second.payload == {"onlyReturnExisting": True}


async def test_an_external_account_that_is_refused(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/account"] = [
        problem("unauthorized", "used before"),
        problem("accountDoesNotExist", status=400),
    ]
    with pytest.raises(AcmeProblem, match="used before"):
        await client.register(account.key, None, Eab("kid", b"a key"))


@pytest.mark.parametrize("body", [b"", b"{}", b'{"status": "valid"}'])
async def test_an_account_that_was_there(
    hostile: HostileCa, client: AcmeClient, account: Account, body: bytes
) -> None:
    hostile.replies["/account"] = Reply(body, headers=[("Location", account.url)])
    assert await client.register(account.key, None, None) == account


async def test_a_closed_account(hostile: HostileCa, client: AcmeClient) -> None:
    location = [("Location", hostile.url("me"))]
    hostile.replies["/account"] = Reply({"status": "deactivated"}, headers=location)
    with pytest.raises(AcmeProblem, match="the account is deactivated"):
        await client.register(new_key(), None, None)


# --- Certificates ---------------------------------------------------------------------------------


def chains() -> dict[str, str | bytes]:
    authority = Authority()
    chain = authority.server_chain(csr_pem())
    leaf, issuing, _ = chain.split("-----END CERTIFICATE-----\n")
    end = "-----END CERTIFICATE-----\n"
    return {
        "nothing": "",
        "a page": "<html></html>",
        "not base64": "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        "not a certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "half of one": chain[: len(chain) // 4] + "\n" + end,
        "text before": "Subject: somebody\n" + chain,
        "text between": leaf + end + "Subject: somebody\n" + issuing + end,
        "text behind": chain + "text",
        "a key": chain + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "too many": leaf + end + (issuing + end) * 10,
        "the issuer first": issuing + end + leaf + end,
        "octets": bytes(range(256)),
        "without an end": "-----BEGIN CERTIFICATE-----\n" + "A" * 100_000,
    }


async def test_what_is_no_chain(hostile: HostileCa, client: AcmeClient, account: Account) -> None:
    for body in chains().values():
        hostile.replies["/certificate"] = Reply(body, content_type=CHAIN)
        with pytest.raises(CaMisbehaves, match="the chain"):
            await client.certificate(account, hostile.url("certificate"))


async def test_a_chain_says_that_it_is(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/certificate"] = Reply(hostile.chain, content_type="application/pkix-cert")
    with pytest.raises(CaMisbehaves, match="application/pkix-cert"):
        await client.certificate(account, hostile.url("certificate"))


def offering(hostile: HostileCa, *paths: str) -> Reply:
    links = [("Link", f'<{hostile.url(path)}>;rel="alternate"') for path in paths]
    index = ("Link", f'<{hostile.directory_url}>;rel="index", <{hostile.origin}/up>; rel=up')
    return Reply(hostile.chain, content_type=CHAIN, headers=[index, *links])


async def test_an_alternate_for_another_certificate(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/certificate"] = offering(hostile, "other")
    other = hostile.authority.server_chain(csr_pem())
    hostile.replies["/other"] = Reply(other, content_type=CHAIN)
    with pytest.raises(CaMisbehaves, match="for another certificate"):
        await client.certificate(account, hostile.url("certificate"), "A root")


async def test_alternates_without_end(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    paths = [f"alternate-{number}" for number in range(100)]
    hostile.replies["/certificate"] = offering(hostile, *paths)
    for path in paths:
        hostile.replies[f"/{path}"] = Reply(hostile.chain, content_type=CHAIN)
    url = hostile.url("certificate")
    assert await client.certificate(account, url, "A root") == hostile.chain
    assert len(hostile.asked) == 3 + ALTERNATES_LIMIT


async def test_an_alternate_that_is_there_no_more(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/certificate"] = offering(hostile, "gone")
    hostile.replies["/gone"] = problem("malformed", status=404)
    url = hostile.url("certificate")
    assert await client.certificate(account, url, "A root") == hostile.chain


async def test_no_alternate_is_fetched_where_the_first_will_do(
    hostile: HostileCa, client: AcmeClient, account: Account
) -> None:
    hostile.replies["/certificate"] = offering(hostile, "other")
    await client.certificate(account, hostile.url("certificate"), "Hostile Root")
    assert not hostile.asked_at("/other")


# --- ARI ------------------------------------------------------------------------------------------

WINDOW = {"start": "2030-01-01T00:00:00Z", "end": "2030-01-03T00:00:00Z"}
CERTIFICATE = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(None, 21_600), ("0", 60), ("3600", 3600), ("1000000000000", 86_400), ("x", 21_600)],
)
async def test_renewal_information(
    hostile: HostileCa, client: AcmeClient, said: str | None, seconds: int
) -> None:
    headers = [] if said is None else [("Retry-After", said)]
    body = {"suggestedWindow": WINDOW, "explanationURL": "https://example.com/why"}
    hostile.replies[f"/ari/{CERTIFICATE}"] = Reply(body, headers=headers)
    info = await client.renewal_info(CERTIFICATE)
    assert (info.start, info.end) == (
        datetime(2030, 1, 1, tzinfo=UTC),
        datetime(2030, 1, 3, tzinfo=UTC),
    )
    assert info.explanation_url == "https://example.com/why"
    assert info.retry_after_seconds == seconds
    assert hostile.asked[-1].method == "GET"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"suggestedWindow": []},
        {"suggestedWindow": {"start": WINDOW["start"]}},
        {"suggestedWindow": {"start": WINDOW["end"], "end": WINDOW["start"]}},
        {"suggestedWindow": {"start": WINDOW["end"], "end": WINDOW["end"]}},
        {"suggestedWindow": WINDOW, "explanationURL": 1},
    ],
)
async def test_what_is_no_renewal_information(
    hostile: HostileCa, client: AcmeClient, body: dict[str, Any]
) -> None:
    hostile.replies[f"/ari/{CERTIFICATE}"] = Reply(copy.deepcopy(body))
    with pytest.raises(CaMisbehaves):
        await client.renewal_info(CERTIFICATE)


async def test_what_is_no_id_of_a_certificate(hostile: HostileCa, client: AcmeClient) -> None:
    for name in ("", "a", "../order", "a.b/../order", "a.b?x=y", "a.b.c", "a." * 99):
        with pytest.raises(ValueError, match="not the id of a certificate"):
            await client.renewal_info(name)
    assert not hostile.asked


@pytest.mark.parametrize("name", ["revokeCert", "keyChange", "renewalInfo"])
async def test_what_a_ca_does_not_offer(
    hostile: HostileCa, client: AcmeClient, account: Account, name: str
) -> None:
    del hostile.directory[name]
    steps: dict[str, Callable[[], Awaitable[object]]] = {
        "revokeCert": lambda: client.revoke(account, b"", None),
        "keyChange": lambda: client.change_key(account, new_key()),
        "renewalInfo": lambda: client.renewal_info(CERTIFICATE),
    }
    with pytest.raises(NotOfferedError, match="the CA offers no"):
        await steps[name]()
