"""Credentials go to HTTPS addresses, or to this machine."""

import pytest

from services.acme.dns import Endpoints


def test_the_public_addresses() -> None:
    assert Endpoints().aws_base_url == "https://route53.amazonaws.com"
    assert Endpoints().google_token_url == "https://oauth2.googleapis.com/token"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.test",
        "https://api.test:8443/v4",
        "http://127.0.0.1:1",
        "http://localhost:1",
        "http://[::1]:1",
    ],
)
def test_an_address(url: str) -> None:
    assert Endpoints(cloudflare_base_url=f"{url}/").cloudflare_base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.test",
        "ftp://api.test",
        "http://api.test",
        "http://127.0.0.1.test",
        "http://127.0.0.1@api.test",
        "https://user@api.test",
        "https://api.test?a",
        "https://api.test#a",
        "https://api.test\n",
        "https://ä.test",
        "https://api.test:0",
        "https://api.test:99999",
        "https://",
        "https://a" + "a" * 1024,
    ],
)
def test_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="godaddy_base_url"):
        Endpoints(godaddy_base_url=url)
