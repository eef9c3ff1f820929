"""What a renewal costs the gateway alone, CPU time a request: `python -m tests.bench.gateway`.

The services behind answer at once with a certificate made beforehand, so that only HTTP, TLS and
the bus are measured: the renew route over open connections, the same endpoint as FastAPI serves
it, and the renew route with a TLS handshake a request. In alternation, for machines are noisy.
"""

import asyncio
import dataclasses
import json
import multiprocessing
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import uvloop

from contracts.certificates import SignedCertificate
from contracts.instance import RenewCertificate
from contracts.subjects import Service
from services.embedded import free_port
from services.gateway import app
from services.gateway.app import Gateway
from services.gateway.dialects import instance
from services.gateway.routes import DialectRoute
from services.gateway.settings import GatewaySettings
from shared import runtime
from shared.clock import utc_now
from tests.bench.keys import key_and_request
from tests.bench.load import Job, client_context, drive, http_request
from tests.bench.processes import cpu_of_tree
from tests.nats_server import NatsHome
from tests.support.authority import Authority
from tests.support.stand_in import StandIn, bus_home, gateway_settings, standing_in

REQUESTS = 3000
ROUNDS = 3
CONNECTIONS = 16
INSTANCE = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
DIRECT = f"/internal/v1/instances/{INSTANCE}/cert/renew"
ORDINARY = f"/internal/v1/instances/{INSTANCE}/cert/renew-ordinarily"


def serve(settings: GatewaySettings) -> None:
    """Run a gateway that has the renew route twice."""
    instance.calls.add_api_route(
        "/{instance_id}/cert/renew-ordinarily",
        instance.renew_certificate,
        methods=["POST"],
        route_class_override=DialectRoute,
    )
    routes = [*instance.INSTANCE.routes, instance.calls.routes[-1]]
    twice = dataclasses.replace(instance.INSTANCE, routes=routes)
    app.DIALECTS = (twice,)  # type: ignore[misc]  # here alone

    async def build() -> Gateway:
        return Gateway(settings)

    runtime.run(build, Service.GATEWAY, settings)


def stand_in(home: NatsHome, authority_ready: "multiprocessing.SimpleQueue[str]") -> None:
    """Answer for the services until killed."""
    authority = Authority()
    leaf = authority.client()
    services = StandIn(authority)
    services.heard = _Forgetful()
    services.answers[RenewCertificate] = SignedCertificate(
        certificate_pem=leaf.pem,
        serial_hex="ab" * 8,
        fingerprint="a" * 64,
        not_before=utc_now(),
        not_after=utc_now(),
    )

    async def answer() -> None:
        async with standing_in(home, services):
            authority_ready.put(leaf.pem)
            await asyncio.Event().wait()

    uvloop.run(answer())


class _Forgetful(list):  # type: ignore[type-arg]  # of nothing
    def append(self, _item: object) -> None:
        pass


def keep_alive(port: int, request: bytes, context: ssl.SSLContext, count: int) -> None:
    """Send the request `count` times over `CONNECTIONS` open connections."""

    def talk(share: int) -> None:
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            for _ in range(share):
                connection.sendall(request)
                reply = connection.recv(65536)
                assert reply.startswith(b"HTTP/1.1 200"), reply
                while not reply.endswith(b"}"):
                    reply += connection.recv(65536)

    threads = [Thread(target=talk, args=(count // CONNECTIONS,)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    spawn = multiprocessing.get_context("spawn")
    with bus_home() as home, tempfile.TemporaryDirectory() as directory:
        ready = spawn.SimpleQueue()
        services = spawn.Process(target=stand_in, args=(home, ready), daemon=True)
        services.start()
        pem = ready.get()
        file = Path(directory) / "client.pem"
        file.write_text(pem)
        port = free_port()
        settings = gateway_settings(
            home, Path(directory), https_port=port, http_port=free_port(), log_level="WARNING"
        )
        gateway = spawn.Process(target=serve, args=(settings,), daemon=True)
        gateway.start()
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        context = client_context(str(file))
        key = key_and_request("x")
        body = json.dumps({"csr_pem": key.csr_pem, "wg_public_key": "A" * 43 + "="}).encode()
        json_type = {"Content-Type": "application/json"}

        def request(path: str) -> bytes:
            return http_request("POST", path, "localhost", body, json_type)

        def open_connections(path: str) -> Callable[[], None]:
            kept = request(path).replace(b"Connection: close\r\n", b"")
            return lambda: keep_alive(port, kept, context, REQUESTS)

        def handshakes() -> None:
            jobs = [Job(request(DIRECT), context, len) for _ in range(REQUESTS)]
            run = drive(("127.0.0.1", port), jobs, CONNECTIONS, 120)
            assert all(sample.reply and sample.reply.status == 200 for sample in run.samples)

        variants = {
            "direct route, open connections": open_connections(DIRECT),
            "FastAPI's way, open connections": open_connections(ORDINARY),
            "direct route, a handshake each": handshakes,
        }
        costs: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        assert gateway.pid
        for _ in range(ROUNDS):
            for name, variant in variants.items():
                began, cpu = time.perf_counter(), _cpu(gateway.pid)
                variant()
                took = time.perf_counter() - began
                costs[name].append(((_cpu(gateway.pid) - cpu) / REQUESTS * 1e6, REQUESTS / took))
        gateway.terminate()
        services.kill()
        for name, found in costs.items():
            micros = statistics.median(cost for cost, _ in found)
            rate = statistics.median(rate for _, rate in found)
            sys.stdout.write(f"{name:34} {micros:6.0f} µs of CPU   {rate:6.0f} /s\n")
    return 0


def _cpu(pid: int) -> float:
    return sum(cpu_of_tree(pid, lambda _argv: "gateway").values())


if __name__ == "__main__":
    sys.exit(main())
