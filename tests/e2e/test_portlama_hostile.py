"""Malformed and malicious requests to the portlama dialect, over HTTPS.

Whatever is sent, the answer is a 4xx in the dialect's own shape that says nothing back; nothing is
burned by it, and a certificate never holds more than its profile.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conversations import Refused, http, say
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
from tests.support import profiles
from tests.support.agents import (
    AGENTS,
    ENROLL,
    TUNNELS_READ,
    Agent,
    enrolled,
    new_label,
    with_token,
)
from tests.support.client import Client, Workload, registered
from tests.support.csr import csr_pem, new_key
from tests.support.hostile_csr import GREEDY, INVALID, greedy, rsa_csr
from tests.support.platform import Platform

CERTS = "/api/certs"
UPGRADE, AUTH_MODE = f"{CERTS}/admin/upgrade-to-hardware-bound", f"{CERTS}/admin/auth-mode"
INVALID_CSR = "Invalid CSR: structure or signature verification failed"
JSON = {"Content-Type": "application/json"}
ANSWER_BYTES = 20_000
"""What was sent is not said back, and not complained about item by item."""
BROKEN_CSR = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"


# --- The shape of refusals ----------------------------------------------------------------------


def judge(response: httpx2.Response) -> None:
    """Check that a refusal is one of this dialect."""
    assert len(response.content) < ANSWER_BYTES, response
    said = refusal_in(response)
    if said is None:
        return
    if said["error"] == "Validation failed":
        assert response.status_code == 400
        assert said.keys() == {"error", "details"}
        assert said["details"].keys() == {"issues"}
        assert said["details"]["issues"]
        for issue in said["details"]["issues"]:
            assert issue.keys() == {"path", "message"}
            assert all(isinstance(step, str | int) for step in issue["path"])
    else:
        assert said.keys() == {"error"}, said


def issues(response: httpx2.Response) -> list[list[str | int]]:
    """Return where a request is not as the schema has it."""
    judge(response)
    assert response.status_code == 400, (response, response.text)
    return [issue["path"] for issue in response.json()["details"]["issues"]]


def said(response: httpx2.Response) -> tuple[int, str]:
    """Return status and text of a refusal."""
    judge(response)
    return response.status_code, response.json()["error"]


@pytest.fixture(autouse=True)
def _no_error_is_logged(platform: Platform) -> Iterator[None]:
    with no_error_is_logged(platform):
        yield


# --- Bodies -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Endpoint:
    """A call, with a body of which each field is tried."""

    who: str
    method: str
    path: str
    body: dict[str, Any]


@dataclass
class Attackers:
    """The administrator, an agent and nobody, all out of their minds."""

    admin: Client
    itself: Client
    nobody: Client
    agent: Agent
    waiting: Agent
    """One with a token."""

    async def send(self, endpoint: Endpoint, content: bytes, **headers: str) -> httpx2.Response:
        """Send a body and judge the answer."""
        caller = {"admin": self.admin, "itself": self.itself, "nobody": self.nobody}[endpoint.who]
        response = await caller.call(
            endpoint.method, endpoint.path, content=content, headers={**JSON, **headers}
        )
        judge(response)
        return response

    def endpoints(self) -> list[Endpoint]:
        """Return every call that takes a body.

        The CSRs are broken: what is good beside them changes nothing.
        """
        agent = f"{AGENTS}/{self.agent.label}"
        new = {"label": new_label(), "capabilities": [TUNNELS_READ], "allowedSites": ["blog"]}
        return [
            Endpoint("admin", "POST", AGENTS, new),
            Endpoint("admin", "POST", f"{AGENTS}/enroll", {**new, "label": new_label()}),
            Endpoint("admin", "PATCH", f"{agent}/capabilities", {"capabilities": [TUNNELS_READ]}),
            Endpoint("admin", "PATCH", f"{agent}/allowed-sites", {"allowedSites": []}),
            Endpoint("admin", "POST", UPGRADE, {"csr": BROKEN_CSR}),
            Endpoint("itself", "POST", f"{AGENTS}/renew", {"csr": BROKEN_CSR}),
            Endpoint("nobody", "POST", ENROLL, {"token": self.waiting.token, "csr": BROKEN_CSR}),
        ]

    async def are_unharmed(self) -> None:
        """Check that what they have still is good, and that the token still is unused."""
        assert (await self.admin.call("GET", AUTH_MODE)).json() == {"adminAuthMode": "p12"}
        me = (await self.itself.call("GET", f"{AGENTS}/me")).json()
        assert (me["label"], me["allowedSites"]) == (self.agent.label, [])
        self.waiting.takes(await self.nobody.call("POST", ENROLL, self.waiting.enrolment()))


@pytest.fixture
async def attackers(platform: Platform, admin: Client, nobody: Client) -> AsyncIterator[Attackers]:
    agent = await enrolled(admin)
    async with Client(platform, agent.identity) as itself:
        yield Attackers(admin, itself, nobody, agent, await with_token(admin))


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_no_body_breaks_an_endpoint(attackers: Attackers, body: bytes) -> None:
    for endpoint in attackers.endpoints():
        response = await attackers.send(endpoint, body)
        assert response.status_code in {400, 413}, (endpoint, response.text)
    await attackers.are_unharmed()


async def test_no_value_breaks_a_field(attackers: Attackers) -> None:
    for endpoint in attackers.endpoints():
        for name in endpoint.body:
            for value in VALUES:
                body = json.dumps({**endpoint.body, name: value})
                response = await attackers.send(endpoint, body.encode())
                assert not response.is_success or value == [], (endpoint, name, value)
    await attackers.are_unharmed()


async def test_nothing_that_is_no_json_by_its_header_is_read(attackers: Attackers) -> None:
    for endpoint in attackers.endpoints():
        content = json.dumps(endpoint.body).encode()
        for media_type in NO_JSON_TYPES:
            response = await attackers.send(endpoint, content, **{"Content-Type": media_type})
            assert issues(response) == [[]]
    await attackers.are_unharmed()


async def test_a_name_that_occurs_twice_is_refused(attackers: Attackers) -> None:
    for endpoint in attackers.endpoints():
        for body in twice(endpoint.body):
            assert issues(await attackers.send(endpoint, body)) == [[]]
    await attackers.are_unharmed()


async def test_depth_and_size_are_bounded(attackers: Attackers) -> None:
    for endpoint in attackers.endpoints():
        for name in endpoint.body:
            deep = json.dumps({**endpoint.body, name: NESTED})
            assert (await attackers.send(endpoint, deep.encode())).status_code == 400
            large = json.dumps({**endpoint.body, name: "x" * 1_000_000})
            assert (await attackers.send(endpoint, large.encode())).status_code in {400, 401}
        surplus = json.dumps(endpoint.body)[:-1] + f', "surplus": {DEEP}}}'
        assert issues(await attackers.send(endpoint, surplus.encode())) == [[]]
        too_large = json.dumps({**endpoint.body, "surplus": "x" * (1 << 20)})
        refused = await attackers.send(endpoint, too_large.encode())
        assert said(refused) == (413, "Request Entity Too Large")
    await attackers.are_unharmed()


@pytest.mark.parametrize("item", ["", "x", 7, None, {}, TUNNELS_READ], ids=repr)
async def test_a_megabyte_of_items_is_one_issue(attackers: Attackers, item: object) -> None:
    """It would take seconds, and be tens of megabytes, to refuse them one by one."""
    items = [item] * (1_000_000 // len(json.dumps([item])))
    for endpoint in attackers.endpoints():
        for name in {"capabilities", "allowedSites"} & endpoint.body.keys():
            body = json.dumps({**endpoint.body, name: items}).encode()
            assert issues(await attackers.send(endpoint, body)) == [[name]]


async def test_a_csr_is_measured_before_its_token_is_looked_at(attackers: Attackers) -> None:
    for token in (attackers.waiting.token, "unknown"):
        body = {"token": token, "csr": csr_pem() + "\n" * 9000}
        assert said(await attackers.nobody.call("POST", ENROLL, body)) == (400, "CSR too large")
    for caller, path in ((attackers.itself, f"{AGENTS}/renew"), (attackers.admin, UPGRADE)):
        response = await caller.call("POST", path, {"csr": csr_pem() + "\n" * 9000})
        assert said(response) == (400, "CSR too large")
    await attackers.are_unharmed()


# --- Idempotency-Key ----------------------------------------------------------------------------


async def test_a_key_that_cannot_be_kept_is_refused(attackers: Attackers) -> None:
    for endpoint in attackers.endpoints():
        body = json.dumps(endpoint.body).encode()
        for key in NO_IDEMPOTENCY_KEYS:
            response = await attackers.send(endpoint, body, **{"Idempotency-Key": key})
            assert issues(response) == [["Idempotency-Key"]]
    await attackers.are_unharmed()


async def test_a_kept_answer_is_for_nobody_who_could_not_ask_now(attackers: Attackers) -> None:
    """Neither for another caller with the same key, nor for the same one once it is revoked."""
    admin, itself, label = attackers.admin, attackers.itself, attackers.agent.label
    key = {"Idempotency-Key": "one-for-all"}
    path, change = f"{AGENTS}/{label}/capabilities", {"capabilities": [TUNNELS_READ]}
    renewal = {"csr": csr_pem(attackers.agent.key)}
    assert (await admin.call("PATCH", path, change, headers=key)).status_code == 200
    response = await itself.call("PATCH", path, change, headers=key)
    assert said(response) == (403, "Insufficient certificate scope")
    first = await itself.call("POST", f"{AGENTS}/renew", renewal, headers=key)
    again = await itself.call("POST", f"{AGENTS}/renew", renewal, headers=key)
    assert (again.status_code, again.json()) == (200, first.json())
    another = await itself.call("POST", f"{AGENTS}/renew", {"csr": csr_pem()}, headers=key)
    assert said(another) == (409, "Idempotency-Key was used for another request")
    assert (await admin.call("DELETE", f"{AGENTS}/{label}")).status_code == 200
    response = await itself.call("POST", f"{AGENTS}/renew", renewal, headers=key)
    assert said(response) == (403, "Certificate is not accepted")


# --- Labels, sites, domains ---------------------------------------------------------------------

NO_LABELS = (*NO_NAMES, "agent:a", "a" * 51)


def with_label(label: str) -> list[tuple[str, str, object]]:
    """Return every call with a label in its path."""
    return [
        ("GET", f"{AGENTS}/{label}/download", None),
        ("PATCH", f"{AGENTS}/{label}/capabilities", {"capabilities": [TUNNELS_READ]}),
        ("PATCH", f"{AGENTS}/{label}/allowed-sites", {"allowedSites": []}),
        ("DELETE", f"{AGENTS}/{label}", None),
        ("DELETE", f"{AGENTS}/enroll/{label}", None),
    ]


async def test_a_path_names_a_label_or_nothing(admin: Client) -> None:
    for label in NO_LABELS:
        for method, path, body in with_label(label):
            assert issues(await admin.call(method, path, body)) == [["label"]], path


async def test_a_slash_in_a_name_leads_nowhere(admin: Client) -> None:
    for segment in NO_SEGMENTS:
        renewal = ("POST", f"{CERTS}/{segment}/renew", None)
        for method, path, body in (*with_label(segment), renewal):
            response = await admin.call(method, path, body)
            assert said(response) in {(404, "Not Found"), (405, "Method Not Allowed")}, path


NO_DOMAINS = (
    "localhost",
    "a..b",
    ".a.b",
    "a.b.",
    "-a.com",
    "a-.com",
    "*.example.com",
    "EXAMPLE.com",
    "a_b.com",
    "a.com%00",
    "a.com%0a",
    "a.com%20--force",
    "--config.a",
    "%C3%A9.com",
    "%EF%BC%91.com",
    f"{'a' * 64}.com",
    ".".join(["a" * 60] * 5),
    f"{'a.' * 20_000}com",
    "%2e%2e",
    "mtls",
    "admin",
)


async def test_a_path_names_a_domain_or_nothing(admin: Client) -> None:
    for domain in NO_DOMAINS:
        assert issues(await admin.call("POST", f"{CERTS}/{domain}/renew")) == [["domain"]], domain


NO_SITES = (
    "",
    ".",
    "..",
    "../blog",
    "..\\blog",
    "/",
    "a/b",
    "a\\b",
    "a\0",
    "a\nb",
    "a\x1b[2J",
    "a\x7f",
    "a\x85",
    "a\u2028b",
    "a\u202eb",
    "\ufeffa",
    "a" * 101,
    "a" * 100_000,
)


async def test_a_site_is_a_name(attackers: Attackers) -> None:
    admin, path = attackers.admin, f"{AGENTS}/{attackers.agent.label}/allowed-sites"
    for site in NO_SITES:
        answers = [await admin.call("PATCH", path, {"allowedSites": ["blog", site]})]
        for new in (AGENTS, f"{AGENTS}/enroll"):
            body = {"label": new_label(), "allowedSites": ["blog", site]}
            answers.append(await admin.call("POST", new, body))
        assert [issues(answer) for answer in answers] == [[["allowedSites", 1]]] * 3, site
        question = {"capability": TUNNELS_READ, "site": site[:5000]}
        response = await attackers.itself.call("GET", f"{AGENTS}/authorize", params=question)
        assert said(response) == (403, "Insufficient certificate scope")
    await attackers.are_unharmed()


async def test_names_in_every_script_are_kept(attackers: Attackers) -> None:
    sites = ["日本", "blog\u0301", "a b", "$(id)", "'; DROP TABLE agent; --", "\u0661", "é" * 100]
    path = f"{AGENTS}/{attackers.agent.label}/allowed-sites"
    response = await attackers.admin.call("PATCH", path, {"allowedSites": sites})
    assert response.json()["allowedSites"] == sites
    for site in sites:
        question = {"capability": TUNNELS_READ, "site": site}
        response = await attackers.itself.call("GET", f"{AGENTS}/authorize", params=question)
        assert response.status_code == 204


NO_LIMITS = (
    "0",
    "-1",
    "501",
    "1.5",
    "1e1",
    "0x1",
    "",
    "%EF%BC%91",
    f"{'9' * 50_000}",
    "%00",
)


async def test_a_limit_is_a_number_in_ascii(admin: Client) -> None:
    for limit in NO_LIMITS:
        assert issues(await admin.call("GET", f"{AGENTS}?limit={limit}")) == [["limit"]], limit


async def test_a_cursor_is_one_of_this_list(admin: Client) -> None:
    for cursor in ("%00", "AAAA", "-1", "1", "A" * 600, "%EF%BC%91", "' OR 1=1 --", "W10"):
        response = await admin.call("GET", f"{AGENTS}?cursor={cursor}")
        assert issues(response) == [["cursor"]], cursor


@pytest.mark.parametrize(
    "path",
    [
        f"{CERTS}/",
        f"{CERTS}//agent",
        f"{CERTS}/../../etc/passwd",
        f"{CERTS}/%2e%2e/%2e%2e/etc/passwd",
        f"{CERTS}/agent/../../../etc/passwd/download",
        f"{CERTS}/agent/{'a/' * 20_000}",
        f"{CERTS}/mtls/download/",
        f"{CERTS}/mtls/download%00",
        f"{CERTS};x=y",
        f"{ENROLL}/",
        "/api/health/../certs",
        "//api/certs",
        "/API/CERTS",
        "/api/certs.json",
        "http://elsewhere.example/api/certs/nothing",
    ],
)
async def test_no_path_leads_elsewhere(platform: Platform, admin_identity: str, path: str) -> None:
    for method in ("GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "BREW"):
        answer = await say(platform, http(method, path, b"{}"), admin_identity)
        assert answer.status in {400, 404, 405}, answer
        assert "x-request-id: " in answer.head
        assert b"root:" not in answer.body


async def test_control_characters_as_they_are_make_no_request(
    platform: Platform, admin_identity: str
) -> None:
    for byte in (b"\0", b"\x01", b"\x1f", b"\x7f", b"\xff", b" ", b"\t", b"\r"):
        line = b"DELETE /api/certs/agent/a" + byte + b"b HTTP/1.1\r\n"
        request = line + b"Host: localhost\r\nConnection: close\r\n\r\n"
        assert (await say(platform, request, admin_identity)).status == 400, byte


# --- CSRs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def invalid() -> dict[str, str]:
    """Return every CSR that is refused, by what is wrong with it."""
    return {name: make() for name, make in INVALID.items()}


async def test_an_invalid_csr_burns_nothing(attackers: Attackers, invalid: dict[str, str]) -> None:
    for name, csr in invalid.items():
        for caller, path, body in (
            (attackers.nobody, ENROLL, {"token": attackers.waiting.token, "csr": csr}),
            (attackers.itself, f"{AGENTS}/renew", {"csr": csr}),
            (attackers.admin, UPGRADE, {"csr": csr}),
        ):
            response = await caller.call("POST", path, body)
            assert said(response) == (400, INVALID_CSR), (name, path)
    await attackers.are_unharmed()


async def test_an_invalid_csr_burns_no_bootstrap_token_and_no_hour(
    platform: Platform, admin: Client, invalid: dict[str, str]
) -> None:
    workload = await registered(admin)
    for name, csr in invalid.items():
        refused = await admin.bootstrap(workload, csr_pem=csr.ljust(100))  # the schema's least
        assert refused == Refused(400, "Invalid CSR"), name
    workload.takes(await admin.bootstrap(workload))
    assert (await admin.move(workload.id, "running")).status_code == 200
    async with Client(platform, workload.identity) as itself:
        for name, csr in invalid.items():
            refused = await itself.renew(workload, csr_pem=csr.ljust(100))
            assert refused == Refused(400, "Invalid CSR"), name
        workload.takes(await itself.renew(workload))


async def test_what_is_no_csr_by_its_header_is_a_field_that_is_invalid(
    attackers: Attackers,
) -> None:
    for csr in ("", "MIIC", csr_pem().replace("REQUEST", ""), csr_pem().lower(), "x" * 9000):
        body = {"token": attackers.waiting.token, "csr": csr}
        assert issues(await attackers.nobody.call("POST", ENROLL, body)) == [["csr"]]
        for caller, path in ((attackers.itself, f"{AGENTS}/renew"), (attackers.admin, UPGRADE)):
            assert issues(await caller.call("POST", path, {"csr": csr})) == [["csr"]]
    await attackers.are_unharmed()


@pytest.mark.parametrize(
    "csr",
    [
        lambda: rsa_csr(8192),
        lambda: csr_pem().replace("\n", "\r\n"),
        lambda: csr_pem().replace("CERTIFICATE", "NEW CERTIFICATE"),
        lambda: f"\n{csr_pem()}\n\n",
        lambda: csr_pem(common_name="x" * 64),
        lambda: csr_pem(common_name="admin\0.example.com"),
        lambda: csr_pem(common_name="\u202enimda"),
    ],
    ids=["RSA-8192", "CRLF", "NEW", "lines around it", "a long name", "NUL in the name", "bidi"],
)
async def test_an_odd_but_valid_csr_is_signed(admin: Client, csr: Callable[[], str]) -> None:
    agent = await with_token(admin)
    pem = await asyncio.to_thread(csr)
    agent.takes(await admin.call("POST", ENROLL, {"token": agent.token, "csr": pem}))


async def test_a_token_is_known_or_not(attackers: Attackers) -> None:
    near = attackers.waiting.token.upper(), f"{attackers.waiting.token}\n"
    for token in ("unknown", "\0", "\u0661" * 64, "'", "x" * 512, "F" * 64, *near):
        body = {"token": token, "csr": csr_pem()}
        response = await attackers.nobody.call("POST", ENROLL, body)
        assert said(response) == (401, "Invalid enrollment token")
    await attackers.are_unharmed()


# --- What is signed -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", GREEDY)
async def test_an_agents_certificate_holds_its_profile_and_nothing_else(
    platform: Platform, admin: Client, tmp_path: Path, name: str
) -> None:
    agent = await with_token(admin)
    body = {"token": agent.token, "csr": greedy(name, agent.key)}
    agent.takes(await admin.call("POST", ENROLL, body))
    profile = profiles.agent(agent.label)
    await profile.check(platform, agent.certificate_pem, agent.key, tmp_path)
    async with Client(platform, agent.identity) as itself:
        key = new_key()
        body = {"csr": greedy(name, key, "agent:other")}
        renewed = (await itself.call("POST", f"{AGENTS}/renew", body)).json()["cert"]
    await profile.check(platform, renewed, key, tmp_path)


@pytest.mark.parametrize("name", GREEDY)
async def test_an_instances_certificate_holds_its_profile_and_nothing_else(
    platform: Platform, admin: Client, tmp_path: Path, name: str
) -> None:
    async def check(workload: Workload) -> None:
        profile = profiles.instance(workload.id)
        await profile.check(platform, workload.certificate_pem, workload.key, tmp_path)

    workload = await registered(admin)
    csr = greedy(name, workload.key)
    workload.takes(await admin.bootstrap(workload, csr_pem=csr))
    await check(workload)
    assert (await admin.move(workload.id, "running")).status_code == 200
    async with Client(platform, workload.identity) as itself:
        workload.takes(await itself.renew(workload, csr_pem=csr))
    await check(workload)


async def test_the_administrators_certificate_holds_its_profile_and_nothing_else(
    changing: Platform, chief: Client, tmp_path: Path
) -> None:
    key = new_key()
    upgraded = await chief.call("POST", UPGRADE, {"csr": greedy("a CA", key, "agent:other")})
    assert upgraded.status_code == 200, upgraded.text
    await profiles.admin().check(changing, upgraded.json()["cert"], key, tmp_path)
