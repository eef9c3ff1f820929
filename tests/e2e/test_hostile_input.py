"""Nothing that a client sends may cause a 5xx: malformed and malicious requests, over HTTPS.

Every endpoint of the instance dialect gets every oddity, with a credential that may call it.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.e2e.conversations import http, say
from tests.e2e.oddities import BODIES, VALUES
from tests.support.client import INSTANCES, Client, Workload, new_instance, running
from tests.support.platform import Platform


@dataclass(frozen=True)
class Endpoint:
    """A call, with a body that is good."""

    method: str
    path: str
    body: dict[str, object]
    as_instance: bool = False


def endpoints(workload: Workload) -> list[Endpoint]:
    """Return every call that takes a body."""
    path = workload.path
    where: dict[str, object] = {"vpn_ip": workload.vpn_ip, "wg_public_key": workload.wg_public_key}
    return [
        Endpoint("POST", INSTANCES, new_instance()),
        Endpoint("PATCH", path, {"status": "running"}),
        Endpoint("PUT", f"{path}/secrets", {"agent_secrets": {}}),
        Endpoint("POST", f"{path}/cert/revoke", {"reason": "x"}),
        Endpoint("POST", f"{path}/cert/bootstrap", workload.bootstrap_body()),
        Endpoint("POST", f"{path}/secrets/refresh", where, as_instance=True),
        Endpoint("POST", f"{path}/cert/renew", workload.renewal_body(), as_instance=True),
    ]


@dataclass
class Attacker:
    """The administrator and an instance, both out of their minds."""

    admin: Client
    itself: Client
    workload: Workload

    async def send(self, endpoint: Endpoint, content: bytes) -> None:
        """Send a body; `Client.call` judges the answer."""
        caller = self.itself if endpoint.as_instance else self.admin
        response = await caller.call(
            endpoint.method,
            endpoint.path,
            content=content,
            headers={"Content-Type": "application/json"},
        )
        assert len(response.content) < 20_000, "what was sent is said back"


@pytest.fixture
async def attacker(platform: Platform, admin: Client) -> AsyncIterator[Attacker]:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        yield Attacker(admin, itself, workload)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_no_body_breaks_an_endpoint(attacker: Attacker, body: bytes) -> None:
    for endpoint in endpoints(attacker.workload):
        await attacker.send(endpoint, body)


async def test_no_value_breaks_a_field(attacker: Attacker) -> None:
    for endpoint in endpoints(attacker.workload):
        for name in (*endpoint.body, "surplus"):
            for value in VALUES:
                body = json.dumps({**endpoint.body, name: value})
                await attacker.send(endpoint, body.encode())


async def test_secrets_come_back_as_they_were_put_or_are_refused(attacker: Attacker) -> None:
    admin, workload = attacker.admin, attacker.workload
    for value in VALUES:
        secrets = {"value": value}
        put = await admin.call(
            "PUT",
            f"{workload.path}/secrets",
            content=json.dumps({"agent_secrets": secrets}).encode(),
            headers={"Content-Type": "application/json"},
        )
        if put.status_code == 204:
            given = await attacker.itself.refresh(workload)
            assert given.json() == {"agent_secrets": secrets}
        else:
            assert put.status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        f"{INSTANCES}/",
        f"{INSTANCES}//cert/renew",
        f"{INSTANCES}/../../etc/passwd",
        f"{INSTANCES}/%2e%2e/%2e%2e/etc/passwd",
        f"{INSTANCES}/%00",
        f"{INSTANCES}/%ff%fe",
        f"{INSTANCES}/497f6eca-6276-4993-bfeb-53cbbbba6f08%00",
        f"{INSTANCES}/497f6eca-6276-4993-bfeb-53cbbbba6f08/",
        f"{INSTANCES}/497f6eca-6276-4993-bfeb-53cbbbba6f08/cert/renew/",
        f"{INSTANCES}/497f6eca-6276-4993-bfeb-53cbbbba6f08%2fcert%2frenew",
        f"{INSTANCES}/{{497f6eca-6276-4993-bfeb-53cbbbba6f08}}",
        f"{INSTANCES}/urn:uuid:497f6eca-6276-4993-bfeb-53cbbbba6f08",
        f"{INSTANCES}/{'9' * 5000}",
        f"{INSTANCES}?cursor={'A' * 5000}",
        f"{INSTANCES}?limit=1&limit=2",
        f"{INSTANCES}?limit={'9' * 5000}",
        f"{INSTANCES};x=y",
        "//internal/v1/instances",
        "/INTERNAL/V1/INSTANCES",
        "*",
        "http://elsewhere.example/internal/v1/instances",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "BREW"])
async def test_no_path_breaks_anything(
    platform: Platform, admin_identity: str, method: str, path: str
) -> None:
    answer = await say(platform, http(method, path, b"{}"), admin_identity)
    assert 200 <= answer.status < 500, answer
    assert "x-request-id: " in answer.head
    assert b"root:" not in answer.body


RENEW = f"{INSTANCES}/497f6eca-6276-4993-bfeb-53cbbbba6f08/cert/renew"
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (http("POST", RENEW, b"{}", version="1.0"), 422),
        (b"POST " + RENEW.encode() + b" HTTP/1.0\r\n\r\n", 422),
        (http("POST", RENEW, b"{}", "Content-Type: text/plain"), 422),
        (http("POST", RENEW, b"a=b", "Content-Type: application/x-www-form-urlencoded"), 422),
        (http("POST", RENEW, b"{}", "Content-Type: application/json; charset=utf-16"), 422),
        (http("POST", RENEW, b"{}", "Content-Type: \xff"), 422),
        (http("POST", RENEW, b"\x1f\x8b", "Content-Encoding: gzip"), 422),
        (http("POST", RENEW, b"{}", "Expect: 100-continue", "Content-Type: application/json"), 422),
        (http("GET", RENEW), 405),
        (http("HEAD", INSTANCES), 405),
        (b"GET / HTTP/1.1\r\n\r\n", 404),  # without Host
        (b"GET /nothing HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 404),
        (b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 400),
        (b"\0\0\0\0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbroken header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    ],
)
async def test_what_hardly_is_a_request_is_refused(
    platform: Platform, request_bytes: bytes, status: int
) -> None:
    if b"Connection: close" not in request_bytes and b"HTTP/1.1" in request_bytes:
        request_bytes = request_bytes.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    answer = await say(platform, request_bytes)
    assert answer.status == status, answer
    assert "x-request-id: " in answer.head


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = b"POST " + RENEW.encode() + b" HTTP/1.1\r\n" + HOST + JSON + b"Connection: close\r\n"
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


async def test_a_chunked_body_is_a_body(platform: Platform) -> None:
    body = json.dumps({"csr_pem": "x" * 100, "wg_public_key": "x"}).encode()
    whole = await say(platform, chunked(body))
    in_pieces = await say(platform, chunked(*(body[n : n + 7] for n in range(0, len(body), 7))))
    assert (whole.status, in_pieces.status) == (401, 401)
    assert (await say(platform, chunked(b"{"))).status == 422
    assert (await say(platform, chunked(b"x" * (2 << 20)))).status == 413


async def test_a_body_of_two_lengths_is_no_request(platform: Platform) -> None:
    """Two readers would see two requests (RFC 9112 section 6.1)."""
    head = b"POST " + RENEW.encode() + b" HTTP/1.1\r\n" + HOST + JSON
    smuggled = b"0\r\n\r\nGET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"
    both = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(smuggled)
    answer = await say(platform, head + both + smuggled)
    assert answer.status == 400
    assert b"openapi" not in answer.body
