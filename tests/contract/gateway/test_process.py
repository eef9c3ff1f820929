"""The gateway as its own process, on uvloop: what `certwire run gateway` starts."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from contracts.instance import GetInstance, RenewCertificate
from services.embedded import free_port
from tests.contract.gateway.messages import (
    ADMIN,
    INSTANCE,
    INSTANCES,
    ONE,
    RENEW,
    RENEW_BODY,
    SIGNED,
)
from tests.nats_server import NatsHome
from tests.support.stand_in import StandIn, client_context, standing_in


class Process:
    """A running gateway and its ports."""

    def __init__(self, home: NatsHome, directory: Path) -> None:
        self.https, self.http, self.operations = free_port(), free_port(), free_port()
        self.environment = {
            **os.environ,
            "CERTWIRE_HOME": str(directory),
            "CERTWIRE_SECRETS_DIR": str(home.secrets),
            "NATS_URL": home.url,
            "CERTWIRE_HTTPS_PORT": str(self.https),
            "CERTWIRE_HTTP_PORT": str(self.http),
            "CERTWIRE_OPS_PORT": str(self.operations),
            "CERTWIRE_DEADLINE_SECONDS": "3",
        }
        self.log = directory / "gateway.log"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run it; kill it afterwards, where it still runs."""
        code = "from services.gateway import app, settings; app.run(settings.GatewaySettings())"
        with self.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, env=self.environment, stdout=log, stderr=log
            )
        try:
            await self.ready(process)
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def ready(self, process: asyncio.subprocess.Process) -> None:
        """Wait until it says so."""
        async with httpx2.AsyncClient(trust_env=False) as http, asyncio.timeout(30):
            while True:
                assert process.returncode is None, self.log.read_text()
                with suppress(httpx2.ConnectError):
                    answer = await http.get(f"http://127.0.0.1:{self.http}/readyz")
                    if answer.status_code == 200:
                        return
                await asyncio.sleep(0.05)


@pytest.fixture
async def process(
    nats_home: NatsHome,
    services: StandIn,  # noqa: ARG001 - they have to be there
    tmp_path: Path,
) -> Process:
    return Process(nats_home, tmp_path)


async def test_serves_counts_and_ends_when_told_to(process: Process, stand_in: StandIn) -> None:
    leaf = stand_in.authority.client()
    stand_in.know(leaf, ADMIN)
    stand_in.says({RenewCertificate: SIGNED, GetInstance: ONE})
    async with process.running() as running:
        async with httpx2.AsyncClient(
            base_url=f"https://localhost:{process.https}",
            verify=client_context(stand_in.authority, leaf),
            trust_env=False,
        ) as http:
            for _ in range(3):  # over one connection
                answer = await http.post(RENEW, json=RENEW_BODY)
                assert answer.status_code == 200
            assert (await http.get(f"{INSTANCES}/{INSTANCE}")).status_code == 200
        credentials = {command.credential for command in stand_in.heard_of(RenewCertificate)}
        assert {one and one.sha256 for one in credentials} == {leaf.sha256}
        async with httpx2.AsyncClient(trust_env=False) as http:
            operations = f"http://127.0.0.1:{process.operations}"
            assert (await http.get(f"{operations}/readyz")).json()["missing"] == []
            metrics = (await http.get(f"{operations}/metrics")).text
        assert "certwire_http_requests_total" in metrics
        assert INSTANCE not in metrics
        begun = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert await running.wait() == 0
        assert time.monotonic() - begun < 5
    for line in process.log.read_text().splitlines():
        assert json.loads(line)["service"] == "gateway", line


async def test_a_callers_own_id_is_in_the_log(process: Process, stand_in: StandIn) -> None:
    context = client_context(stand_in.authority)
    async with process.running() as running:
        async with httpx2.AsyncClient(verify=context, trust_env=False) as http:
            answer = await http.get(
                f"https://localhost:{process.https}{INSTANCES}",
                headers={"X-Request-Id": "theirs", "Authorization": "Bearer a-secret"},
            )
        running.terminate()
        await running.wait()
    lines = map(json.loads, process.log.read_text().splitlines())
    (line,) = [line for line in lines if line.get("caller_request_id") == "theirs"]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["route"] == "GET /internal/v1/instances"
    assert "a-secret" not in process.log.read_text()


async def test_without_nats_it_is_503_at_once_and_still_ends(
    tmp_path: Path, stand_in: StandIn
) -> None:
    home = NatsHome(tmp_path)
    process = Process(home, tmp_path)
    context = client_context(stand_in.authority, stand_in.authority.client())
    with home.serving() as nats:
        async with standing_in(home, stand_in), process.running() as running:
            nats.kill()
            nats.wait()
            begun = time.monotonic()
            async with httpx2.AsyncClient(verify=context, trust_env=False) as http:
                answer = await http.post(
                    f"https://localhost:{process.https}{RENEW}", json=RENEW_BODY
                )
            assert answer.status_code == 503
            assert answer.json()["request_id"] == answer.headers["x-request-id"]
            assert time.monotonic() - begun < 2
            running.send_signal(signal.SIGTERM)
            assert await running.wait() == 0
    assert "Traceback" not in process.log.read_text()
