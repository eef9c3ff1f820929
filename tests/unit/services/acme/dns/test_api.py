"""Calls that are bounded whatever comes back; the providers' tests have the rest."""

from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime

import httpx2
import pytest

from services.acme.dns import DnsProviderError
from services.acme.dns.api import LONGEST_WAIT_SECONDS, Api, ApiModel, Reply
from shared.clock import utc_now
from tests.support.dns_providers.accounts import client
from tests.support.dns_providers.faults import Faulty, serving, status


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with client() as http:
        yield http


class Shape(ApiModel):
    number: int


def test_segments_and_queries_are_quoted(http: httpx2.AsyncClient) -> None:
    api = Api("X", "https://api.test/v1", http, ())
    assert api.url() == "https://api.test/v1"
    assert api.url("a/../b", "@", "") == "https://api.test/v1/a%2F..%2Fb/%40/"
    query = {"z": "a&b=c", "a": "x y"}
    assert api.url("a", query=query) == "https://api.test/v1/a?a=x%20y&z=a%26b%3Dc"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("two\r\nlines\t\x1b[31m", "two lines [31m"),
        ("a" * 1000, "a" * 200),
        ("\ud800\u202e\u0000", ""),
        ("the secret-1 is wrong", "its words are left out, for they hold a secret"),
        ("a key: abc", "a key: abc"),
    ],
)
def test_words_that_may_be_shown(http: httpx2.AsyncClient, said: str, shown: str) -> None:
    assert Api("X", "https://api.test", http, ("secret-1", "abc")).plain(said) == shown


@pytest.mark.parametrize(
    "body",
    [
        b'{"number": 1, "number": 2}',
        b'{"number": "1"}',
        b'{"number": 1.5}',
        b'{"number": true}',
        b'{"number": 1e999}',
        b'{"number": Infinity}',
        b'{"number": ' + b"9" * 10_000 + b"}",
        b'{"number": 1}}',
        b"\xff",
        b"{}",
        b"null",
    ],
)
def test_what_cannot_be_read(body: bytes) -> None:
    reply = Reply("X", 200, body)
    with pytest.raises(DnsProviderError, match="X gave an answer that cannot be read") as caught:
        reply.read(Shape)
    assert caught.value.transient
    assert caught.value.__cause__ is None
    assert reply.read_error(Shape) is None


def test_what_is_not_read_may_be_anything() -> None:
    assert Reply("X", 200, b'{"number": 1, "more": [null]}').read(Shape) == Shape(number=1)
    assert "secret" not in repr(Reply("X", 200, b"secret"))


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("0", 0),
        ("17", 17),
        ("9" * 400, LONGEST_WAIT_SECONDS),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT_SECONDS),
        ("²", None),
    ],
)
async def test_when_to_come_back(
    http: httpx2.AsyncClient, retry_after: str, seconds: int | None
) -> None:
    for code in (429, 503):
        async with serving(status(code, Retry_After=retry_after)) as url:
            with pytest.raises(DnsProviderError) as caught:
                await Api("X", url, http, ()).call("GET", url, {})
        assert (caught.value.transient, caught.value.retry_after_seconds) == (True, seconds)


async def test_a_moment_to_come_back(http: httpx2.AsyncClient) -> None:
    later = format_datetime(utc_now() + timedelta(seconds=60), usegmt=True)
    async with serving(status(429, Retry_After=later)) as url:
        with pytest.raises(DnsProviderError) as caught:
            await Api("X", url, http, ()).call("GET", url, {})
    assert caught.value.retry_after_seconds in range(55, 62)


async def test_a_client_that_would_do_more_does_not() -> None:
    elsewhere, here = Faulty(status(200)), Faulty(status(200))
    async with serving(elsewhere) as other, serving(here) as url:
        here.always = status(302, Location=f"{other}/")
        async with httpx2.AsyncClient(follow_redirects=True, trust_env=False, verify=False) as http:
            with pytest.raises(DnsProviderError, match="go elsewhere"):
                await Api("X", url, http, ()).call("GET", url, {})
    assert elsewhere.asked == []


async def test_an_error_of_the_connection_has_no_header_in_it(http: httpx2.AsyncClient) -> None:
    async with serving(status(200)) as url:
        with pytest.raises(DnsProviderError) as caught:
            await Api("X", url, http, ()).call("GET", url, {"Authorization": "secret-1\n"})
    assert "secret-1" not in str(caught.value)
    assert caught.value.__suppress_context__
