"""One origin, however an address is written."""

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.acme.client.urls import URL_LIMIT, Origin

HERE = Origin("acme.example.com", 443)


@pytest.mark.parametrize(
    "url",
    [
        "https://acme.example.com/",
        "https://acme.example.com/a/b?c=d&e=%2F",
        "https://acme.example.com:443/a",
        "HTTPS://ACME.example.com/a",
        "https://acme.example.com/" + "x" * (URL_LIMIT - 25),
    ],
)
def test_here(url: str) -> None:
    assert HERE.checked(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://acme.example.com/",
        "https://acme.example.com",
        "https://acme.example.com?a",
        "https://acme.example.com:8443/",
        "https://acme.example.com:0/",
        "https://acme.example.com:99999/",
        "https://acme.example.com:/",
        "https://acme.example.com./",
        "https://acme.example.com@evil.example/",
        "https://acme.example.com:443@evil.example/",
        "https://evil.example/acme.example.com/",
        "https://acme.example.com\\@evil.example/",
        "https://acme.example.com\t/",
        "https://acme.example.com/\n",
        " https://acme.example.com/",
        "https:acme.example.com/",
        "https:///acme.example.com/",
        "https://acme\N{FULLWIDTH FULL STOP}example.com/",
        "https://acme.example.com/#a",
        "https://acme.example.com/" + "x" * URL_LIMIT,
        "",
        None,
        {},
    ],
)
def test_elsewhere_or_nowhere(url: object) -> None:
    with pytest.raises(ValueError, match="not a"):
        HERE.checked(url)


def test_addresses_of_machines() -> None:
    assert Origin.of("https://127.0.0.1:14000/dir") == Origin("127.0.0.1", 14000)
    assert Origin.of("https://[::1]:14000/dir") == Origin("[::1]", 14000)


@given(st.text(alphabet="https://:@?#[]\\.%a1-\t", max_size=40), st.booleans())
def test_what_is_accepted_leads_there(text: str, begun: bool) -> None:  # noqa: FBT001 - made by hypothesis
    url = f"https://{text}" if begun else text
    try:
        origin = Origin.of(url)
    except ValueError:
        return
    try:
        asked = httpx2.URL(url)
    except httpx2.InvalidURL:
        return
    assert asked.scheme == "https"
    assert asked.userinfo == b""
    assert asked.host.lower() == origin.host.strip("[]")
    assert (asked.port or 443) == origin.port
