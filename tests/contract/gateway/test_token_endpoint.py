"""`POST /api/v1/auth/token` of the fastpki dialect."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.registry import LogIn, TokenPair
from services.gateway.app import Gateway
from shared.clock import utc_now
from tests.support.stand_in import StandIn, client

PATH = "/api/v1/auth/token"
FORM = {"username": "root", "password": "correct horse"}


@pytest.fixture
async def anybody(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    stand_in.answers[LogIn] = TokenPair(
        access_token="access",
        refresh_token="refresh",
        access_expires_at=utc_now() + timedelta(minutes=15),
    )
    async with client(gateway, stand_in.authority) as connection:
        yield connection


@pytest.mark.parametrize("path", [PATH, f"{PATH}/"])
async def test_a_password_becomes_a_token(
    anybody: httpx2.AsyncClient, stand_in: StandIn, path: str
) -> None:
    form = {**FORM, "grant_type": "password", "scope": "", "client_id": "x"}
    answer = await anybody.post(path, data=form, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 200
    body = answer.json()
    assert 890 <= body.pop("expires_in") <= 900
    assert body == {
        "access_token": "access",
        "token_type": "bearer",
        "refresh_token": "refresh",
    }
    assert answer.headers["cache-control"] == "no-store"
    (sent,) = stand_in.heard_of(LogIn)
    assert (sent.username, sent.password) == ("root", "correct horse")
    assert sent.call.source_address == "127.0.0.1"
    assert sent.call.idempotency is None, "a key's scope would be a hash of the password"


async def test_a_multipart_form_will_do(anybody: httpx2.AsyncClient) -> None:
    files: Any = {name: (None, value) for name, value in FORM.items()}
    assert (await anybody.post(PATH, files=files)).status_code == 200


async def test_wrong_password(anybody: httpx2.AsyncClient, stand_in: StandIn) -> None:
    stand_in.answers[LogIn] = CertwireError(ErrorCode.LOGIN_FAILED, "unknown user")
    answer = await anybody.post(PATH, data=FORM)
    assert (answer.status_code, answer.json()) == (
        401,
        {"detail": "Incorrect username or password"},
    )
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_too_many_attempts(anybody: httpx2.AsyncClient, stand_in: StandIn) -> None:
    stand_in.answers[LogIn] = CertwireError(ErrorCode.RATE_LIMITED, retry_after_seconds=60)
    answer = await anybody.post(PATH, data=FORM)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"username": "root"},
        {**FORM, "grant_type": "implicit"},
        {**FORM, "username": "u" * 256},
        {**FORM, "password": "p" * 1025},
    ],
)
async def test_an_incomplete_form_is_422(anybody: httpx2.AsyncClient, form: dict[str, str]) -> None:
    answer = await anybody.post(PATH, data=form)
    assert answer.status_code == 422
    assert set(answer.json()["detail"][0]) == {"loc", "msg", "type"}
    assert "correct horse" not in answer.text


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/json", b'{"username": "root", "password": "x"}'),
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\n\xff\xfe"),
        ("multipart/form-data; boundary=x", b"garbage"),
        (
            "application/x-www-form-urlencoded",
            b"username=%ff&password=%00&%zz=&&=&" + b"a=b&" * 2000,
        ),
        ("application/x-www-form-urlencoded; charset=nonsense", b"username=a"),
        ("\xff", b"username=a&password=b"),
    ],
)
async def test_no_form_makes_the_gateway_stumble(
    anybody: httpx2.AsyncClient, content_type: str, content: bytes
) -> None:
    headers = {b"Content-Type": content_type.encode("latin-1")}
    answer = await anybody.post(PATH, content=content, headers=headers)
    assert 400 <= answer.status_code < 500
    assert "detail" in answer.json()
