"""HTTP itself: unknown paths and methods, bodies of every kind, and bytes that are no HTTP."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from prometheus_client import REGISTRY

from contracts.instance import BootstrapToken, CreatedInstance, CreateInstance, RenewCertificate
from services.gateway import peer
from services.gateway.app import Gateway
from tests.contract.gateway.messages import (
    ADMIN,
    INSTANCES,
    NEW_INSTANCE,
    NOON,
    ONE,
    RENEW,
    RENEW_BODY,
    SIGNED,
)
from tests.nats_server import NatsHome
from tests.support.stand_in import (
    StandIn,
    client,
    client_context,
    gateway_settings,
    running_gateway,
)

JSON = {"Content-Type": "application/json"}
RENEWAL = json.dumps(RENEW_BODY).encode()


@pytest.fixture
async def http(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    """Call with a certificate that may do everything."""
    leaf = stand_in.authority.client()
    stand_in.know(leaf, ADMIN)
    token = BootstrapToken(token="once", expires_at=NOON)
    stand_in.says(
        {
            RenewCertificate: SIGNED,
            CreateInstance: CreatedInstance(instance=ONE, bootstrap=token),
        }
    )
    async with client(gateway, stand_in.authority, leaf) as connection:
        yield connection


class Raw:
    """A connection that sends whatever bytes it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, *parts: bytes) -> bytes:
        """Send the parts one after another; return all that comes until the end."""
        with suppress(ConnectionResetError):  # it has heard enough
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()
                await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            return await self.reader.read()


@pytest.fixture
async def raw(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection(
        "localhost", gateway.https.port, ssl=client_context(stand_in.authority)
    )
    yield Raw(reader, writer)
    writer.close()


# --- Paths and methods ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [f"{INSTANCES}/", f"{INSTANCES}/x/y/z", f"{RENEW}/", "/api/v1/auth", "/api/v1/auth/nothing"],
)
async def test_an_unknown_path_answers_in_its_dialect(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    "path", ["/", "/internal/v1/instancesx", "/internal//v1/instances", "/healthz", "/docs", "/%00"]
)
async def test_an_unknown_path_of_no_dialect_is_a_problem(
    http: httpx2.AsyncClient, path: str
) -> None:
    answer = await http.get(path)
    assert (answer.status_code, answer.json()) == (404, {"title": "Not Found", "status": 404})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", INSTANCES, "GET, POST"),
        ("HEAD", INSTANCES, "GET, POST"),
        ("GET", RENEW, "POST"),
        ("OPTIONS", RENEW, "POST"),
        ("PROPFIND", RENEW, "POST"),
    ],
)
async def test_another_method_says_which_are_allowed(
    http: httpx2.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert method == "HEAD" or answer.json() == {"detail": "Method Not Allowed"}


async def test_every_answer_has_an_id_of_its_own(
    http: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    """The caller's is theirs."""
    headers = {"X-Request-Id": "mine"}
    ids = {
        (await http.post(path, json=RENEW_BODY, headers=headers)).headers["x-request-id"]
        for path in (RENEW, RENEW, INSTANCES, "/nothing")
    }
    assert len(ids) == 4
    assert all(UUID(one).version == 7 for one in ids)
    assert {command.call.request_id for command in stand_in.heard_of(RenewCertificate)} <= ids


async def test_a_trace_goes_on_and_nonsense_does_not(
    http: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    for given in (trace, "nonsense", f"{trace}\tx"):
        await http.post(RENEW, json=RENEW_BODY, headers={"traceparent": given})
    assert [command.call.traceparent for command in stand_in.heard_of(RenewCertificate)] == [
        trace,
        None,
        None,
    ]


async def test_the_api_is_documented(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/openapi.json")
    assert answer.status_code == 200
    paths = answer.json()["paths"]
    renewal = paths[f"{INSTANCES}/{{instance_id}}/cert/renew"]["post"]
    assert set(renewal["responses"]) == {
        "200", "400", "401", "404", "409", "422", "429", "500", "503", "504",
    }  # fmt: skip
    assert renewal["responses"]["409"]["description"] == "Instance not running"
    assert renewal["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert [parameter["name"] for parameter in renewal["parameters"]] == ["instance_id"]
    assert len([path for path in paths if path.startswith(INSTANCES)]) == 9
    schemas = answer.json()["components"]["schemas"]
    assert schemas["RenewRequest"]["properties"]["csr_pem"]["minLength"] == 100
    assert "HTTPValidationError" not in schemas


# --- Bodies -----------------------------------------------------------------------------------

BAD_JSON = {
    "not json": b"{",
    "two values": b"{}{}",
    "duplicate names": b'{"csr_pem": "a", "csr_pem": "b"}',
    "duplicate names deep inside": b'{"a": [{"b": 1, "b": 2}]}',
    "NaN": b'{"csr_pem": NaN}',
    "infinity": b'{"csr_pem": -Infinity}',
    "a number without end": b'{"csr_pem": 1e999}',
    "digits without end": b'{"csr_pem": ' + b"9" * 10_000 + b"}",
    "invalid UTF-8": b'{"csr_pem": "\xff"}',
    "UTF-16": '{"csr_pem": "x"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"csr_pem": "x"}',
    "a lone surrogate": b'{"csr_pem": "\\ud800"}',
    "nesting": b"[" * 100_000,
    "closed nesting": b"[" * 900 + b"]" * 900,
    "nested objects": b'{"a":' * 200 + b"1" + b"}" * 200,
    "a control character": b'{"csr_pem": "\x00"}',
    "nothing": b"",
    "a trailing comma": b"{,}",
}


@pytest.mark.parametrize("name", BAD_JSON)
async def test_bad_json_is_422_everywhere(http: httpx2.AsyncClient, name: str) -> None:
    for path in (RENEW, INSTANCES):
        answer = await http.post(path, content=BAD_JSON[name], headers=JSON)
        assert answer.status_code == 422, path
        assert all(set(issue) == {"loc", "msg", "type"} for issue in answer.json()["detail"])


@pytest.mark.parametrize("secrets", [b'{"a": "\\ud800"}', b'{"\\udfff": 1}', b'{"a": 1e999}'])
async def test_secrets_that_cannot_travel_are_422(http: httpx2.AsyncClient, secrets: bytes) -> None:
    body = json.dumps({**NEW_INSTANCE, "agent_secrets": 0}).encode()
    answer = await http.post(
        INSTANCES, content=body.replace(b'"agent_secrets": 0', b'"agent_secrets": ' + secrets),
        headers=JSON,
    )  # fmt: skip
    assert answer.status_code == 422


async def test_secrets_arrive_as_they_were_sent(
    http: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    deep: Any = "end"
    for _ in range(60):
        deep = [deep]
    secrets = {"n": 2**70, "f": 0.1, "u": "\U0001f511\u0000", "deep": deep, "": None}
    answer = await http.post(INSTANCES, json={**NEW_INSTANCE, "agent_secrets": secrets})
    assert answer.status_code == 201
    assert stand_in.heard_of(CreateInstance)[0].agent_secrets == secrets


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_json_has_to_say_so(http: httpx2.AsyncClient, content_type: str | None) -> None:
    """Else a page in a browser could send it (CORS asks first only for JSON)."""
    headers = {"Content-Type": content_type} if content_type else {}
    for path in (RENEW, INSTANCES):
        answer = await http.post(path, content=RENEWAL, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body"]


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
)
async def test_json_may_say_so_in_several_ways(http: httpx2.AsyncClient, content_type: str) -> None:
    answer = await http.post(RENEW, content=RENEWAL, headers={"Content-Type": content_type})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "key"), [(RENEW, "detail"), ("/api/v1/auth/token", "detail"), ("/x", "title")]
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_a_megabyte_is_413(
    http: httpx2.AsyncClient, path: str, key: str, *, chunked: bool
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 64 * 1024

    body: Any = chunks() if chunked else b" " * 20 * 64 * 1024
    answer = await http.post(path, content=body, headers=JSON)
    assert answer.status_code == 413
    assert key in answer.json()
    assert (await http.post(RENEW, json=RENEW_BODY)).status_code == 200, "the connection lives on"


async def test_a_body_of_a_megabyte_is_read(http: httpx2.AsyncClient) -> None:
    answer = await http.post(RENEW, content=RENEWAL.ljust(1024 * 1024), headers=JSON)
    assert answer.status_code == 200


async def test_a_giant_is_not_waited_for(raw: Raw) -> None:
    head = f"POST {RENEW} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    assert (await raw.say(head.encode())).startswith(b"HTTP/1.1 413 ")


async def test_a_slow_body_is_408(nats_home: NatsHome, services: StandIn, tmp_path: Path) -> None:
    settings = gateway_settings(nats_home, tmp_path, body_seconds=0.3)
    async with running_gateway(settings) as gateway:
        reader, writer = await asyncio.open_connection(
            "localhost", gateway.https.port, ssl=client_context(services.authority)
        )
        head = f"POST {RENEW} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{"
        answer = await Raw(reader, writer).say(head.encode())
        assert answer.startswith(b"HTTP/1.1 408 ")
        writer.close()


# --- Bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x00\n" * 3,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nna me: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_what_is_no_request_is_a_4xx_with_an_id(raw: Raw, request_bytes: bytes) -> None:
    answer = await raw.say(request_bytes)
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer), answer
    assert b"\r\nx-request-id: " in answer
    assert b"application/problem+json" in answer


async def test_a_head_without_end_is_431(raw: Raw) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\n"
    answer = await raw.say(head, *(b"a: " + b"b" * 30_000 + b"\r\n" for _ in range(6)))
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"\r\nx-request-id: " in answer


@pytest.mark.parametrize("begin", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_never_ends_is_hung_up_on(
    gateway: Gateway, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(peer, "HEAD_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection(
        "localhost", gateway.https.port, ssl=client_context(stand_in.authority)
    )
    writer.write(begin)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_a_head_in_pieces_is_a_request(raw: Raw) -> None:
    request = f"GET {INSTANCES} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    answer = await raw.say(*(request[start : start + 9] for start in range(0, len(request), 9)))
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_pipelined_requests_are_answered_in_order(raw: Raw) -> None:
    one = f"GET {INSTANCES} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await raw.say(one + one + last)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"401", b"401", b"404"]


async def test_an_upgrade_is_not_taken_up(raw: Raw) -> None:
    answer = await raw.say(
        b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_plain_http_on_the_tls_port_gets_nowhere(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("localhost", gateway.https.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        assert not (await reader.read()).startswith(b"HTTP")
    writer.close()


# --- Numbers ----------------------------------------------------------------------------------


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_requests_are_counted_by_route_and_never_by_id(
    gateway: Gateway, http: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    route = "POST /internal/v1/instances/{instance_id}/cert/renew"
    labels = {"dialect": "instance", "route": route, "status": "200"}
    before = counted("certwire_http_requests_total", **labels)
    await http.post(RENEW, json=RENEW_BODY)
    await http.get("/some/path/of/nobody")
    assert counted("certwire_http_requests_total", **labels) == before + 1
    assert counted("certwire_http_request_seconds_count", **labels) >= 1
    unmatched = {"dialect": "none", "route": "unmatched", "status": "404"}
    assert counted("certwire_http_requests_total", **unmatched) >= 1
    without = {"dialect": "instance", "route": "GET /internal/v1/instances"}
    before = counted("certwire_http_uncredentialed_requests_total", **without)
    async with client(gateway, stand_in.authority) as anybody:
        await anybody.get(INSTANCES)
    assert counted("certwire_http_uncredentialed_requests_total", **without) == before + 1
