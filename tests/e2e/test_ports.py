"""What listens where, and to whom it speaks."""

import asyncio
import ssl

import httpx2
import pytest

from tests.support.client import (
    INSTANCES,
    TRANSPORT_ERRORS,
    Client,
    identity_of_the_administrator,
    tls_context,
)
from tests.support.platform import SERVICES, Platform


async def test_the_public_port_serves_only_what_is_public(platform: Platform) -> None:
    base = f"http://127.0.0.1:{platform.http_port}"
    async with httpx2.AsyncClient(base_url=base, trust_env=False) as http:
        words = {path: (await http.get(path)).text for path in ("/healthz", "/readyz")}
        assert words == {"/healthz": "ok\n", "/readyz": "ready\n"}
        for path in (INSTANCES, "/api/v1/auth/token", "/metrics", "/openapi.json", "/", "/docs"):
            for method in ("GET", "POST"):
                response = await http.request(method, path)
                assert response.status_code == 404, path
                assert response.headers["content-type"] == "application/problem+json"
                assert "x-request-id" in response.headers


async def test_the_tls_port_says_what_it_offers_and_nothing_operational(
    nobody: Client,
) -> None:
    described = (await nobody.call("GET", "/openapi.json")).json()
    renewal = f"{INSTANCES}/{{instance_id}}/cert/renew"
    assert {INSTANCES, renewal, "/api/v1/auth/token"} <= described["paths"].keys()
    assert {"200", "400", "401", "404", "409", "422", "429", "500"} <= described["paths"][renewal][
        "post"
    ]["responses"].keys()
    for path in ("/metrics", "/readyz", "/docs", "/redoc", "/"):
        missing = await nobody.call("GET", path)
        assert missing.status_code == 404
        assert missing.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_3_is_spoken_and_1_2_is_refused(
    platform: Platform, version: ssl.TLSVersion
) -> None:
    context = tls_context(platform.ca_file, identity_of_the_administrator(platform))
    context.minimum_version = context.maximum_version = version
    opening = asyncio.open_connection("localhost", platform.https_port, ssl=context)
    if version is ssl.TLSVersion.TLSv1_2:
        with pytest.raises(TRANSPORT_ERRORS):
            await opening
    else:
        _, writer = await opening
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.transport.abort()


@pytest.mark.parametrize("service", SERVICES)
async def test_each_service_has_metrics_and_details_on_a_port_of_its_own(
    platform: Platform, service: str
) -> None:
    base = f"http://127.0.0.1:{platform.ports()[f'ops-{service}']}"
    async with httpx2.AsyncClient(base_url=base, trust_env=False) as http:
        metrics = (await http.get("/metrics")).text
        ready = (await http.get("/readyz")).json()
        assert (await http.get("/healthz")).text == "ok\n"
    assert (ready["service"], ready["ready"], ready["missing"]) == (service, True, [])
    assert "process_cpu_seconds_total" in metrics
    assert EXPECTED[service] in metrics


EXPECTED = {
    "gateway": "certwire_http_requests_total",
    "issuer": 'certwire_command_seconds_count{outcome="ok"',
    "registry": 'certwire_command_seconds_count{outcome="ok"',
    "instance": "certwire_outbox_published_total",
    "acme": "certwire_acme_renewals_due",
    "audit": "certwire_audit_records_total",
}
