"""Malformed and malicious requests to the project dialect, and to the port that CAs ask.

Whatever is sent, the answer is a 4xx in the dialect's own shape that says nothing back, no order is
begun by it, and no project is another one afterwards.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tests.e2e.authorization.callers import API_KEYS, PROJECTS, new_key
from tests.e2e.conversations import http, say
from tests.e2e.oddities import (
    BODIES,
    DEEP,
    NESTED,
    NO_IDEMPOTENCY_KEYS,
    NO_JSON_TYPES,
    NO_NAMES,
    NO_SEGMENTS,
    VALUES,
    no_error_is_logged,
    refusal_in,
    twice,
)
from tests.support.agents import new_label
from tests.support.client import Client, superuser
from tests.support.platform import Platform

JSON = {"Content-Type": "application/json"}
ANSWER_BYTES = 2_000
"""What was sent is not said back, and not complained about item by item."""
SECRET = "s3cret-of-a-provider"
OBTAIN = {
    "email": "admin@example.com",
    "challengeType": "dns-01",
    "dnsProvider": "cloudflare",
    "dnsCredentials": {"apiToken": SECRET},
}
MATERIAL = {"certificate": "no certificate", "privateKey": SECRET}
PERMISSIONS = {"projects": "none"}


# --- The shape of refusals ----------------------------------------------------------------------


def judge(response: httpx2.Response) -> None:
    """Check that a refusal is one of this dialect."""
    said = refusal_in(response)
    if said is None:
        return
    assert len(response.content) < ANSWER_BYTES, response
    assert SECRET not in response.text
    assert said.keys() == {"success", "error"}, said
    assert said["success"] is False


def said(response: httpx2.Response) -> tuple[int, str]:
    """Return status and text of a refusal."""
    judge(response)
    return response.status_code, response.json()["error"]


def names(response: httpx2.Response, *fields: str) -> bool:
    """Return whether a request was not as the schema has it, in one of these fields."""
    status, text = said(response)
    return status == 400 and text.split(":")[0].split(".")[0] in fields


@pytest.fixture(autouse=True)
def _no_error_is_logged(platform: Platform) -> Iterator[None]:
    with no_error_is_logged(platform, SECRET):
        yield


# --- Those who send -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Endpoint:
    """A call, with a body of which each field is tried."""

    path: str
    body: dict[str, Any]
    root: bool = False


@dataclass
class Attackers:
    """A superuser and a deployment tool, both out of their minds."""

    root: Client
    tool: Client
    platform: Platform
    project: str
    without_domain: str
    domain: str

    async def send(self, endpoint: Endpoint, content: bytes, **headers: str) -> httpx2.Response:
        """Send a body and judge the answer."""
        caller = self.root if endpoint.root else self.tool
        response = await caller.call(
            "POST", endpoint.path, content=content, headers={**JSON, **headers}
        )
        judge(response)
        return response

    def endpoints(self) -> list[Endpoint]:
        """Return every call that takes a body.

        What is asked for a certificate is asked of a project without a domain: were it good, no
        order would be begun.
        """
        certificate = f"{PROJECTS}/{self.without_domain}/certificate"
        return [
            Endpoint(API_KEYS, {"name": "k", "permissions": PERMISSIONS}, root=True),
            Endpoint(f"{PROJECTS}/create", {"id": "", "name": "n", "description": "d"}),
            Endpoint(f"{PROJECTS}/{self.project}/domain", {"domain": self.domain}),
            Endpoint(f"{certificate}/obtain", OBTAIN),
            Endpoint(f"{certificate}/preflight", OBTAIN),
            Endpoint(f"{certificate}/upload", MATERIAL),
            Endpoint(f"{certificate}/validate", MATERIAL),
        ]

    async def are_unharmed(self) -> None:
        """Check that the projects are as they were, and that nothing was ordered or kept."""
        for project, domain in ((self.project, self.domain), (self.without_domain, None)):
            path = f"{PROJECTS}/{project}"
            shown = (await self.tool.call("GET", path)).json()
            assert (shown["domain"], shown["description"]) == (domain, None)
            assert (await self.tool.call("GET", f"{path}/certificate")).json() is None
            orders = await self.tool.call("GET", f"{path}/certificate/orders")
            assert orders.json() == {"orders": []}


@pytest.fixture
async def attackers(platform: Platform, address: str) -> AsyncIterator[Attackers]:
    async with superuser(platform, address=address) as root:
        key = (await new_key(root, "write", "read"))["key"]
        async with Client(platform, address=address, **{"X-API-Key": key}) as tool:
            project, without_domain = new_label(), new_label()
            for name in (project, without_domain):
                body = {"id": name, "name": name}
                made = await tool.call("POST", f"{PROJECTS}/create", body)
                assert made.status_code == 201, made.text
            domain = f"{project}.example.com"
            body = {"domain": domain}
            given = await tool.call("POST", f"{PROJECTS}/{project}/domain", body)
            assert given.status_code == 200, given.text
            yield Attackers(root, tool, platform, project, without_domain, domain)


# --- Bodies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_no_body_breaks_an_endpoint(attackers: Attackers, body: bytes) -> None:
    for endpoint in attackers.endpoints():
        response = await attackers.send(endpoint, body)
        assert response.status_code in {400, 413}, (endpoint, response.text)
    await attackers.are_unharmed()


async def test_no_value_breaks_a_field(attackers: Attackers) -> None:
    """What is a text, or nothing, may be good; the project then has no domain to order for."""
    for endpoint in attackers.endpoints():
        for name in endpoint.body:
            for value in VALUES:
                body = json.dumps({**endpoint.body, name: value})
                response = await attackers.send(endpoint, body.encode())
                good = endpoint.path.endswith("validate") or endpoint.path == API_KEYS
                assert not response.is_success or good, (endpoint, name, value)
    await attackers.are_unharmed()


async def test_no_value_breaks_a_credential(attackers: Attackers) -> None:
    fields = {
        "cloudflare": ["apiToken"],
        "aws": ["accessKeyId", "secretAccessKey", "region"],
        "digitalocean": ["apiToken"],
        "godaddy": ["apiKey", "apiSecret"],
        "google": ["projectId", "credentials"],
    }
    _, _, _, obtain, preflight, *_ = attackers.endpoints()
    for provider, members in fields.items():
        for member in members:
            for value in VALUES:
                given = {**dict.fromkeys(members, "some-value-1"), member: value}
                body = {**OBTAIN, "dnsProvider": provider, "dnsCredentials": given}
                for endpoint in (obtain, preflight):
                    response = await attackers.send(endpoint, json.dumps(body).encode())
                    assert response.status_code == 400, (provider, member, value)
    await attackers.are_unharmed()


async def test_nothing_that_is_no_json_by_its_header_is_read(attackers: Attackers) -> None:
    for endpoint in attackers.endpoints():
        content = json.dumps(endpoint.body).encode()
        for media_type in NO_JSON_TYPES:
            response = await attackers.send(endpoint, content, **{"Content-Type": media_type})
            assert names(response, "body"), response.text
    await attackers.are_unharmed()


async def test_a_name_that_occurs_twice_is_refused(attackers: Attackers) -> None:
    for endpoint in attackers.endpoints():
        for body in twice(endpoint.body):
            assert names(await attackers.send(endpoint, body), "body")
    await attackers.are_unharmed()


async def test_depth_and_size_are_bounded(attackers: Attackers) -> None:
    for endpoint in attackers.endpoints():
        for name in endpoint.body:
            deep = json.dumps({**endpoint.body, name: NESTED})
            assert (await attackers.send(endpoint, deep.encode())).status_code == 400
            large = json.dumps({**endpoint.body, name: "x" * 1_000_000})
            assert (await attackers.send(endpoint, large.encode())).status_code == 400
        surplus = json.dumps(endpoint.body)[:-1] + f', "surplus": {DEEP}}}'
        assert names(await attackers.send(endpoint, surplus.encode()), "body")
        too_large = json.dumps({**endpoint.body, "surplus": "x" * (1 << 20)})
        refused = await attackers.send(endpoint, too_large.encode())
        assert said(refused) == (413, "Request Entity Too Large")
    await attackers.are_unharmed()


async def test_a_megabyte_of_names_is_one_line(attackers: Attackers) -> None:
    """Of credentials that are not the provider's, too: none of the names is said back."""
    many = {f"{SECRET} {number}": number for number in range(20_000)}
    credentials = {**OBTAIN, "dnsCredentials": many}
    permissions = {"name": "k", "permissions": {**PERMISSIONS, **many}}
    keys, _, _, obtain, *_ = attackers.endpoints()
    for endpoint, body, field in (
        (obtain, credentials, "dnsCredentials"),
        (keys, permissions, "permissions"),
    ):
        assert names(await attackers.send(endpoint, json.dumps(body).encode()), field)
    await attackers.are_unharmed()


# --- Certificates and keys to upload ------------------------------------------------------------

BEGIN, END = "-----BEGIN {}-----\n", "-----END {}-----\n"


def pem(label: str, content: str) -> str:
    """Return what looks like PEM."""
    return BEGIN.format(label) + content + "\n" + END.format(label)


UPLOADS = {
    "nothing in it": pem("CERTIFICATE", ""),
    "no base64": pem("CERTIFICATE", "!!!!"),
    "no DER": pem("CERTIFICATE", "AAAA"),
    "an endless length": pem("CERTIFICATE", "MIT/////"),
    "depth": pem("CERTIFICATE", "MIAwgDCAMIAwgDCAMIAwgDCA" * 100),
    "a thousand of them": pem("CERTIFICATE", "AAAA") * 1000,
    "beginnings alone": BEGIN.format("CERTIFICATE") * 2000,
    "a CSR": pem("CERTIFICATE REQUEST", "AAAA"),
    "NUL": "\0" * 1000,
    "every line empty": "\n" * 60_000,
    "another alphabet": pem("CERTIFICATE", "\u0410\u0410\u0410\u0410"),
}
PRIVATE_KEYS = {
    "nothing in it": pem("PRIVATE KEY", ""),
    "no DER": pem("PRIVATE KEY", "AAAA"),
    "encrypted": pem("ENCRYPTED PRIVATE KEY", "MIIB"),
    "legacy encryption": BEGIN.format("RSA PRIVATE KEY")
    + "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n"
    + END.format("RSA PRIVATE KEY"),
    "of OpenSSH": pem("OPENSSH PRIVATE KEY", "b3BlbnNzaC1rZXktdjEAAAAA"),
    "DSA": pem("DSA PRIVATE KEY", "MIIB"),
    "NUL": "\0",
}


async def test_no_upload_breaks_what_reads_it(attackers: Attackers) -> None:
    certificate = f"{PROJECTS}/{attackers.project}/certificate"
    bodies = [{**MATERIAL, "certificate": text} for text in UPLOADS.values()]
    bodies += [{**MATERIAL, "privateKey": text} for text in PRIVATE_KEYS.values()]
    for body in bodies:
        refused = await attackers.tool.call("POST", f"{certificate}/upload", body)
        assert said(refused)[0] == 400, body
        validated = await attackers.tool.call("POST", f"{certificate}/validate", body)
        judge(validated)
        assert (validated.status_code, validated.json()["valid"]) == (200, False), body
        assert validated.json()["error"] == refused.json()["error"]
    await attackers.are_unharmed()


# --- Names in paths -----------------------------------------------------------------------------

NO_IDS = (*NO_NAMES, "a" * 65)


def about(project: str) -> list[tuple[str, str, object]]:
    """Return every call with a project in its path."""
    path = f"{PROJECTS}/{project}"
    certificate = f"{path}/certificate"
    return [
        ("GET", path, None),
        ("DELETE", path, None),
        ("GET", f"{path}/domain", None),
        ("POST", f"{path}/domain", {"domain": "a.example.com"}),
        ("DELETE", f"{path}/domain", None),
        ("GET", certificate, None),
        ("DELETE", certificate, None),
        *(("GET", f"{certificate}/{leaf}", None) for leaf in ("status", "download", "orders")),
        ("GET", f"{certificate}/private-key", None),
        *(("POST", f"{certificate}/{leaf}", None) for leaf in ("renew", "revoke")),
        *(("POST", f"{certificate}/{leaf}", OBTAIN) for leaf in ("obtain", "preflight")),
        *(("POST", f"{certificate}/{leaf}", MATERIAL) for leaf in ("upload", "validate")),
    ]


async def test_a_path_names_a_project_or_nothing(attackers: Attackers) -> None:
    for project in NO_IDS:
        for method, path, body in about(project):
            assert names(await attackers.tool.call(method, path, body), "id"), path
    await attackers.are_unharmed()


async def test_a_slash_in_a_name_leads_nowhere(attackers: Attackers) -> None:
    for segment in NO_SEGMENTS:
        for method, path, body in about(segment):
            response = await attackers.tool.call(method, path, body)
            assert said(response) in {(404, "Not Found"), (405, "Method Not Allowed")}, path
    await attackers.are_unharmed()


async def test_a_project_that_there_is_not_is_404_everywhere(attackers: Attackers) -> None:
    for method, path, body in about(new_label()):
        assert said(await attackers.tool.call(method, path, body)) == (404, "Project not found")


@pytest.mark.parametrize(
    "number", ["0", "-1", "1.0", "1e1", "0x1", "1_0", "%201", "%D9%A1", str(2**63), "9" * 50_000]
)
async def test_a_path_names_a_key_or_nothing(attackers: Attackers, number: str) -> None:
    assert names(await attackers.root.call("DELETE", f"{API_KEYS}/{number}"), "id")


@pytest.mark.parametrize("number", [str(2**63 - 1), "9" * 18])
async def test_a_key_that_there_is_not_is_404(attackers: Attackers, number: str) -> None:
    answer = await attackers.root.call("DELETE", f"{API_KEYS}/{number}")
    assert said(answer) == (404, "API key not found")


NO_DOMAINS = (
    "localhost",
    "a..b",
    ".a.b",
    "a.b.",
    "-a.com",
    "a-.com",
    "**.example.com",
    "*.*.example.com",
    "a.*.com",
    "*example.com",
    "*.com\n",
    "a_b.com",
    "a.com\0",
    "a.com ",
    "a.com --force",
    "--config.a",
    "http://a.com",
    "a.com/x",
    "a.com:80",
    "a@b.com",
    "é.com",
    "\u0661.com",
    "\u212a.com",
    f"{'a' * 64}.com",
    ".".join(["a" * 60] * 5),
    f"{'a.' * 20_000}com",
    "../../live",
    "[::1]",
)


async def test_a_project_has_a_domain_or_nothing(attackers: Attackers) -> None:
    path = f"{PROJECTS}/{attackers.project}/domain"
    for domain in NO_DOMAINS:
        assert names(await attackers.tool.call("POST", path, {"domain": domain}), "domain"), domain
    await attackers.are_unharmed()


# --- Queries, headers ---------------------------------------------------------------------------

NO_LIMITS = ("0", "-1", "501", "1.5", "1e1", "0x1", "", "\u0661", "9" * 5000, "NaN")
NO_CURSORS = ("x", "=", "AAAA", "A" * 12, "_" * 11, "/////////w", "\0" * 4, "\u0661" * 11)


async def test_a_page_is_asked_for_properly(attackers: Attackers) -> None:
    for caller, path in ((attackers.tool, PROJECTS), (attackers.root, API_KEYS)):
        for limit in NO_LIMITS:
            assert names(await caller.call("GET", path, params={"limit": limit}), "limit")
        for cursor in NO_CURSORS:
            assert names(await caller.call("GET", path, params={"cursor": cursor}), "cursor")
        page = await caller.call("GET", path, params={"limit": 1, "unknown": "x" * 5000})
        assert page.status_code == 200
        with_cursor = {"cursor": page.json()["nextCursor"] or "", "limit": 1}
        assert (await caller.call("GET", path, params=with_cursor)).status_code in {200, 400}


async def test_a_key_that_cannot_be_kept_is_refused(attackers: Attackers) -> None:
    for endpoint in attackers.endpoints():
        body = json.dumps(endpoint.body).encode()
        for key in NO_IDEMPOTENCY_KEYS:
            response = await attackers.send(endpoint, body, **{"Idempotency-Key": key})
            assert names(response, "Idempotency-Key")
    await attackers.are_unharmed()


async def test_the_same_key_with_another_body_is_422(attackers: Attackers) -> None:
    key = {"Idempotency-Key": "one-for-all"}
    path = f"{PROJECTS}/create"
    first = {"id": new_label(), "name": "first"}
    made = await attackers.tool.call("POST", path, first, headers=key)
    again = await attackers.tool.call("POST", path, first, headers=key)
    assert (made.status_code, again.status_code) == (201, 201)
    assert made.json() == again.json()
    other = await attackers.tool.call("POST", path, {**first, "name": "other"}, headers=key)
    assert said(other) == (422, "Idempotency-Key was used for another request")
    elsewhere = await attackers.root.call("POST", path, first, headers=key)
    assert said(elsewhere) == (409, "Project already exists"), "another's key is another key"


async def test_a_kept_answer_is_for_nobody_who_could_not_ask_now(attackers: Attackers) -> None:
    made = await new_key(attackers.root, "write")
    headers = {"X-API-Key": made["key"]}
    body = {"id": new_label(), "name": "n"}
    async with Client(attackers.platform, **headers) as tool:
        key = {"Idempotency-Key": "7"}
        for _ in range(2):
            answer = await tool.call("POST", f"{PROJECTS}/create", body, headers=key)
            assert answer.status_code == 201
        gone = await attackers.root.call("DELETE", f"{API_KEYS}/{made['id']}")
        assert gone.status_code == 204
        answer = await tool.call("POST", f"{PROJECTS}/create", body, headers=key)
        assert said(answer) == (401, "Invalid or expired credential")


NO_CREDENTIALS: tuple[dict[str, str], ...] = (
    {"X-API-Key": ""},
    {"X-API-Key": "cwk_" + "a" * 43},
    {"X-API-Key": "' OR 1=1 --"},
    {"X-API-Key": "x" * 20_000},
    {"X-API-Key": "cwk_\x80\xff"},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer cwk_"},
    {"Authorization": "Bearer a b"},
    {"Authorization": "Bearer " + "x" * 20_000},
)


async def test_what_is_no_credential_is_401(attackers: Attackers) -> None:
    async with Client(attackers.platform, address=attackers.tool.address) as nobody:
        for headers in NO_CREDENTIALS:
            raw = {name: value.encode("latin-1") for name, value in headers.items()}
            for path in (PROJECTS, API_KEYS):
                answer = await nobody.call("GET", path, headers=raw)
                assert said(answer) == (401, "Invalid or expired credential"), headers
        answer = await nobody.call("GET", PROJECTS, headers={"Authorization": "Basic YTpi"})
        assert said(answer) == (401, "Not authenticated")


async def test_two_credentials_are_none(attackers: Attackers) -> None:
    """Were one of them to count, which one would be a matter of taste."""
    token = attackers.root.headers["Authorization"]
    key = attackers.tool.headers["X-API-Key"]
    for caller, headers in (
        (attackers.tool, {"Authorization": token}),
        (attackers.root, {"X-API-Key": key}),
    ):
        for path in (PROJECTS, API_KEYS):
            answer = await caller.call("GET", path, headers=headers)
            assert said(answer) == (401, "Invalid or expired credential")


# --- Many at once -------------------------------------------------------------------------------


async def test_of_20_parallel_projects_of_an_id_there_is_one(attackers: Attackers) -> None:
    body = {"id": new_label(), "name": "n"}
    answers = await asyncio.gather(
        *(attackers.tool.call("POST", f"{PROJECTS}/create", body) for _ in range(20))
    )
    codes = [answer.status_code for answer in answers]
    assert (codes.count(201), codes.count(409)) == (1, 19)


async def test_a_deleted_key_is_nobodys_even_on_a_connection_that_is_open(
    attackers: Attackers,
) -> None:
    """With requests under way: none that begins after the deletion's answer succeeds."""
    made = await new_key(attackers.root, "read")
    headers = {"X-API-Key": made["key"]}
    async with Client(attackers.platform, connections=4, **headers) as tool:
        stop = asyncio.Event()

        async def ask() -> None:
            while not stop.is_set():
                answer = await tool.call("GET", PROJECTS)
                assert answer.status_code in {200, 401}

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        await asyncio.sleep(0.2)
        gone = await attackers.root.call("DELETE", f"{API_KEYS}/{made['id']}")
        assert gone.status_code == 204
        afterwards = await asyncio.gather(*(tool.call("GET", PROJECTS) for _ in range(4)))
        stop.set()
        await asyncio.gather(*asking)
    assert {said(answer) for answer in afterwards} == {(401, "Invalid or expired credential")}


# --- What a CA asks -----------------------------------------------------------------------------

TOKENS: tuple[tuple[str, Callable[[int], bool]], ...] = (
    ("a" * 43, lambda status: status == 404),
    ("a" * 15, lambda status: status == 404),
    ("a" * 129, lambda status: status == 404),
    ("..%2f..%2f..%2fetc%2fpasswd", lambda status: status == 404),
    ("%2e%2e/%2e%2e/%2e%2e/etc/passwd", lambda status: status == 404),
    ("a" * 43 + "%00", lambda status: status == 404),
    ("a" * 43 + "%0d%0aX: y", lambda status: status in {400, 404}),
    ("*" * 43, lambda status: status == 404),
    ("a" * 50_000, lambda status: status == 404),
    ("a" * 70_000, lambda status: status in {400, 431}),
    ("%ff" * 20, lambda status: status == 404),
)


async def test_nothing_but_a_token_is_answered(platform: Platform) -> None:
    for token, good in TOKENS:
        path = f"/.well-known/acme-challenge/{token}".encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", platform.http_port)
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert good(int(answer.split()[1])), (token[:60], answer[:200])
        assert b"root:" not in answer


async def test_the_tls_port_answers_no_challenge(platform: Platform) -> None:
    answer = await say(platform, http("GET", f"/.well-known/acme-challenge/{'a' * 43}"))
    assert answer.status == 404
