"""Superusers' tokens: `POST /api/v1/auth/token` of the fastpki dialect."""

import json

from tests.e2e.conversations import Refused, retry_after
from tests.support.client import INSTANCES, Client
from tests.support.platform import Platform

PATH = "/api/v1/auth/token"
WRONG = Refused(401, "Incorrect username or password")


def login(platform: Platform, **changes: str) -> dict[str, str]:
    """Return the form that logs the superuser in."""
    return {**json.loads((platform.bootstrap / "superuser.json").read_text()), **changes}


async def test_a_password_gets_a_token_of_fifteen_minutes(
    platform: Platform, nobody: Client
) -> None:
    response = await nobody.call("POST", PATH, data=login(platform))
    assert response.status_code == 200
    token = response.json()
    assert token.keys() == {"access_token", "token_type", "refresh_token", "expires_in"}
    assert token["token_type"] == "bearer"
    assert 890 < token["expires_in"] <= 900
    assert response.headers["cache-control"] == "no-store"
    bearer = {"Authorization": f"Bearer {token['access_token']}"}
    assert (await nobody.call("GET", INSTANCES, headers=bearer)).status_code == 200
    for wrong in (token["refresh_token"], token["access_token"][:-1], "x"):
        bearer = {"Authorization": f"Bearer {wrong}"}
        assert (await nobody.call("GET", INSTANCES, headers=bearer)).status_code == 401


async def test_five_tries_a_minute(platform: Platform, nobody: Client) -> None:
    wrong = login(platform, password="wrong")
    for _ in range(5):
        assert await nobody.call("POST", PATH, data=wrong) == WRONG
    limited = await nobody.call("POST", PATH, data=login(platform))
    assert limited.status_code == 429
    assert 0 < retry_after(limited) <= 60


async def test_an_unknown_user_is_told_nothing_else(platform: Platform, nobody: Client) -> None:
    unknown = login(platform, username="sup\0eruser")
    for form in (unknown, login(platform, username="root"), login(platform, username="SUPERUSER")):
        response = await nobody.call("POST", PATH, data=form)
        assert response.status_code in {401, 422}, response.text


async def test_a_form_that_cannot_be_is_refused(platform: Platform, nobody: Client) -> None:
    for form in (
        {},
        {"username": "superuser"},
        login(platform, username="x" * 256),
        login(platform, password="x" * 1025),
        login(platform, grant_type="client_credentials"),
    ):
        assert (await nobody.call("POST", PATH, data=form)).status_code == 422, form
    assert (await nobody.call("POST", PATH, login(platform))).status_code == 422
