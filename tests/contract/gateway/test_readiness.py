"""Readiness, as the public port, the operations port and `certwire status` have it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from contracts.status import GetStatus, status_subject
from contracts.subjects import CLI, Service
from services.gateway import readiness
from services.gateway.app import Gateway
from shared.settings import Settings
from tests.nats_server import NatsHome
from tests.support.running import bus, call
from tests.support.stand_in import (
    SERVICES,
    StandIn,
    bus_home,
    gateway_settings,
    running_gateway,
    standing_in,
)


@pytest.fixture(autouse=True)
def freshly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep no report."""
    monkeypatch.setattr(readiness, "KEPT_SECONDS", 0.0)


@pytest.fixture
async def public(gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    url = f"http://127.0.0.1:{gateway.http.port}"
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as connection:
        yield connection


async def test_a_word_each(public: httpx2.AsyncClient) -> None:
    for path, word in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
        answer = await public.get(path)
        assert (answer.status_code, answer.text) == (200, word)
        assert answer.headers["x-request-id"]
        assert (await public.head(path)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/metrics", "/openapi.json", "/internal/v1/instances"])
async def test_nothing_else_is_public(public: httpx2.AsyncClient, path: str) -> None:
    answer = await public.get(path)
    assert (answer.status_code, answer.json()) == (404, {"title": "Not Found", "status": 404})
    assert answer.headers["content-type"] == "application/problem+json"


async def test_another_method_is_a_problem(public: httpx2.AsyncClient) -> None:
    answer = await public.post("/readyz")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json()["status"] == 405


async def test_says_which_part_misses_what(
    public: httpx2.AsyncClient, gateway: Gateway, stand_in: StandIn
) -> None:
    stand_in.missing[Service.REGISTRY] = ("postgres", "the schema")
    answer = await public.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "not ready\n")
    report = await gateway.status()
    assert report.missing == ("registry: postgres", "registry: the schema")


async def test_a_service_that_nobody_hears_is_named(tmp_path: Path) -> None:
    others = tuple(service for service in SERVICES if service is not Service.ACME)
    with bus_home() as home:
        async with (
            standing_in(home, StandIn(), others),
            running_gateway(gateway_settings(home, tmp_path)) as gateway,
        ):
            assert (await gateway.status()).missing == ("acme",)


async def test_many_who_ask_make_one_question(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "KEPT_SECONDS", 1.0)
    reports = await asyncio.gather(*(gateway.status() for _ in range(50)))
    assert len({id(report) for report in reports}) == 1


async def test_answers_the_command_line(gateway: Gateway, nats_home: NatsHome) -> None:
    assert gateway.https.port
    settings = Settings(home=nats_home.home, CERTWIRE_NATS_URL=nats_home.url)
    async with bus(settings, CLI) as cli:
        report = await cli.request(GetStatus(call=call()), status_subject(Service.GATEWAY))
    assert (report.service, report.ready) == ("gateway", True)
