"""Answers to http-01 challenges: on the plain port alone, and for tokens alone."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from contracts.acme import GetHttpChallenge, HttpChallenge
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Message
from services.gateway import http_challenges
from services.gateway.app import Gateway
from tests.support.stand_in import StandIn, client

WELL_KNOWN = "/.well-known/acme-challenge"
TOKEN = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"


async def challenge(asked: GetHttpChallenge) -> Message:
    if asked.token != TOKEN:
        raise CertwireError(ErrorCode.NOT_FOUND)
    return HttpChallenge(key_authorization=ANSWER)


@pytest.fixture
async def public(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    """Call the plain port."""
    stand_in.says({GetHttpChallenge: challenge})
    url = f"http://127.0.0.1:{gateway.http.port}"
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as connection:
        yield connection


def is_not_found(answer: httpx2.Response) -> bool:
    return answer.status_code == 404 and answer.json()["title"] == "Not Found"


async def test_a_challenge_is_answered_as_rfc_8555_has_it(
    public: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    """Section 8.3: the key authorization, and nothing else, as octets. It is asked each time."""
    for _ in range(2):
        answer = await public.get(f"{WELL_KNOWN}/{TOKEN}")
        assert (answer.status_code, answer.content) == (200, ANSWER.encode())
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"]
    assert [asked.token for asked in stand_in.heard_of(GetHttpChallenge)] == [TOKEN] * 2
    head = await public.head(f"{WELL_KNOWN}/{TOKEN}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(ANSWER))


async def test_whatever_host_is_asked_for(public: httpx2.AsyncClient) -> None:
    """A name that points here may be anybody's: the token alone says what is asked."""
    for host in ("api.example.com", "API.example.com:80", "192.0.2.1", "[::1]:80"):
        answer = await public.get(f"{WELL_KNOWN}/{TOKEN}", headers={"Host": host})
        assert answer.text == ANSWER


async def test_a_token_of_no_order_is_404(public: httpx2.AsyncClient) -> None:
    answer = await public.get(f"{WELL_KNOWN}/{TOKEN[::-1]}")
    assert is_not_found(answer)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await public.head(f"{WELL_KNOWN}/{TOKEN[::-1]}")).status_code == 404


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a" * 15,
        "a" * 129,
        "a" * 60_000,
        f"{TOKEN}/",
        f"{TOKEN}/x",
        f"{TOKEN}.txt",
        f"{TOKEN}%0a",
        f"{TOKEN}%00",
        f"{TOKEN}=",
        f"+{TOKEN}",
        f"{TOKEN}%20",
        "..%2f..%2fetc%2fpasswd%2f",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%5c..%5cwindows%5csystem",
        "%C3%A9" * 20,
        "%D9%A1" * 20,
        "*" * 20,
        "certwire.acme.order.get.now",
    ],
)
async def test_what_is_no_token_reaches_nobody(
    public: httpx2.AsyncClient, stand_in: StandIn, token: str
) -> None:
    assert is_not_found(await public.get(f"{WELL_KNOWN}/{token}"))
    assert not stand_in.heard_of(GetHttpChallenge)


async def test_nothing_else_can_be_done_with_it(
    public: httpx2.AsyncClient, gateway: Gateway, stand_in: StandIn
) -> None:
    answer = await public.post(f"{WELL_KNOWN}/{TOKEN}", content=b"x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    async with client(gateway, stand_in.authority) as tls:
        assert is_not_found(await tls.get(f"{WELL_KNOWN}/{TOKEN}"))
    assert not stand_in.heard_of(GetHttpChallenge)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ErrorCode.UNAVAILABLE, 503),
        (ErrorCode.OUTCOME_UNKNOWN, 504),
        (ErrorCode.INTERNAL, 500),
    ],
)
async def test_trouble_inside_says_nothing_of_it(
    public: httpx2.AsyncClient,
    stand_in: StandIn,
    error: ErrorCode,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_challenges, "PATIENCE_SECONDS", 0.3)
    stand_in.answers[GetHttpChallenge] = CertwireError(error, "a secret")
    answer = await public.get(f"{WELL_KNOWN}/{TOKEN}")
    assert answer.status_code == status
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "error", [ErrorCode.UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN, ErrorCode.OVERLOADED]
)
async def test_a_ca_waits_for_a_service_that_comes_back(
    public: httpx2.AsyncClient, stand_in: StandIn, error: ErrorCode
) -> None:
    async def late(asked: GetHttpChallenge) -> Message:
        if len(stand_in.heard_of(GetHttpChallenge)) < 3:
            raise CertwireError(error)
        return await challenge(asked)

    stand_in.says({GetHttpChallenge: late})
    answer = await public.get(f"{WELL_KNOWN}/{TOKEN}")
    assert (answer.status_code, answer.text) == (200, ANSWER)
    calls = [asked.call for asked in stand_in.heard_of(GetHttpChallenge)]
    assert len(calls) == 3
    assert len({call.request_id for call in calls}) == 1


async def test_a_ca_does_not_wait_for_an_answer_that_is_no(
    public: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    assert is_not_found(await public.get(f"{WELL_KNOWN}/{TOKEN[::-1]}"))
    stand_in.answers[GetHttpChallenge] = CertwireError(ErrorCode.INTERNAL)
    assert (await public.get(f"{WELL_KNOWN}/{TOKEN}")).status_code == 500
    assert len(stand_in.heard_of(GetHttpChallenge)) == 2
