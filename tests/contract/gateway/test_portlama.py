"""The portlama dialect to the letter of its specification."""

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from contracts.acme import (
    DomainCertificate,
    DomainCertificatePage,
    GetOrder,
    GetRenewalSchedule,
    ListDomainCertificates,
    OrderState,
    RenewDomain,
)
from contracts.agents import (
    Agent,
    AgentPage,
    AuthorizeAgent,
    CreateAgent,
    EnrollAgent,
    GetMtlsCertificates,
    GetOnboarding,
    GetOwnAgent,
    ListAgents,
    MtlsCertificates,
    Onboarding,
    OnboardingStatus,
    RenewAgent,
    UpgradeAdmin,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.instance import ResolvedInstance, ResolveInstance
from contracts.messages import Message
from contracts.principal import Principal, PrincipalKind
from contracts.registry import ResolveCredentials
from services.gateway.app import Gateway
from shared.clock import utc_now
from tests.contract.gateway.messages import ADMIN
from tests.contract.gateway.portlama_messages import (
    AGENT,
    ANSWERS,
    BEGAN_SHOWN,
    CA,
    CSR,
    ENDS_SHOWN,
    EVERY,
    LABEL,
    LEAF,
    NEW_AGENT,
    PASSWORD,
    TOKEN,
)
from tests.contract.gateway.project_messages import ORDER, ended, failed
from tests.nats_server import NatsHome
from tests.support.authority import Leaf
from tests.support.stand_in import StandIn, client, gateway_settings, running_gateway

AGENTS = "/api/certs/agent"
AUTHORIZE = f"{AGENTS}/authorize"
GONE = (
    "P12 certificate {} is disabled. Admin uses hardware-bound authentication."
    " Use portlama-reset-admin on the server to revert."
)
EXISTS = f'Agent certificate with label "{LABEL}" already exists'
NOT_FOUND = f'Agent certificate "{LABEL}" not found'
INVALID_CSR = "Invalid CSR: structure or signature verification failed"
AN_AGENT = Principal(kind=PrincipalKind.AGENT, id="1", name=LABEL)


@pytest.fixture
def leaf(stand_in: StandIn) -> Leaf:
    leaf = stand_in.authority.client("admin")
    stand_in.know(leaf, ADMIN)
    stand_in.says(ANSWERS)
    return leaf


@pytest.fixture
async def admin(
    gateway: Gateway, stand_in: StandIn, leaf: Leaf
) -> AsyncIterator[httpx2.AsyncClient]:
    """Call with the administrator's certificate."""
    async with client(gateway, stand_in.authority, leaf) as connection:
        yield connection


@pytest.fixture
async def anybody(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    """Call without a certificate."""
    stand_in.says(ANSWERS)
    async with client(gateway, stand_in.authority) as connection:
        yield connection


async def call(
    connection: httpx2.AsyncClient, endpoint: tuple[str, str, object]
) -> httpx2.Response:
    method, path, body = endpoint
    return await connection.request(method, path, json=body)


def asked_after(stand_in: StandIn, heard: int) -> list[type[Any]]:
    """Return what the registry was asked since then, but for the state of the platform."""
    asked = [type(command) for command in stand_in.heard[heard:]]
    return [kind for kind in asked if kind in ANSWERS or kind is ResolveCredentials]


def invalid(answer: httpx2.Response) -> list[list[str | int]]:
    """Return where the issues of a validation error are."""
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert (set(body), body["error"]) == ({"error", "details"}, "Validation failed")
    assert set(body["details"]) == {"issues"}
    for issue in body["details"]["issues"]:
        assert set(issue) == {"path", "message"}
        assert issue["message"]
    return [issue["path"] for issue in body["details"]["issues"]]


# --- What is answered -------------------------------------------------------------------------

CREATED = {
    "ok": True,
    "label": LABEL,
    "p12Password": PASSWORD,
    "serial": "ABC123",
    "expiresAt": ENDS_SHOWN,
}
SHOWN = {
    "label": LABEL,
    "serial": "ABC123",
    "capabilities": ["tunnels:read", "sites:read"],
    "allowedSites": ["blog", "docs"],
    "enrollmentMethod": "p12",
    "createdAt": BEGAN_SHOWN,
    "expiresAt": ENDS_SHOWN,
    "revoked": False,
    "expiringSoon": False,
}
SIGNED_SHOWN = {
    "ok": True,
    "cert": LEAF,
    "caCert": CA,
    "serial": "ABC123",
    "expiresAt": ENDS_SHOWN,
}


@pytest.mark.parametrize(
    ("path", "answered"),
    [
        (
            "/api/certs/auto-renew-status",
            {"active": True, "nextRun": ENDS_SHOWN, "lastRun": BEGAN_SHOWN},
        ),
        (
            "/api/certs/app.example.com/renew",
            {"ok": True, "domain": "app.example.com", "newExpiry": "2026-04-19T12:00:00.999Z"},
        ),
        (
            "/api/certs/mtls/rotate",
            {
                "ok": True,
                "p12Password": PASSWORD,
                "expiresAt": ENDS_SHOWN,
                "warning": "Your current browser certificate is now invalid. Download and import"
                " the new certificate before closing this page.",
            },
        ),
        ("/api/certs/admin/upgrade-to-hardware-bound", SIGNED_SHOWN),
        ("/api/certs/admin/auth-mode", {"adminAuthMode": "p12"}),
        (
            f"{AGENTS}/{LABEL}/capabilities",
            {"ok": True, "label": LABEL, "capabilities": SHOWN["capabilities"]},
        ),
        (
            f"{AGENTS}/{LABEL}/allowed-sites",
            {"ok": True, "label": LABEL, "allowedSites": SHOWN["allowedSites"]},
        ),
        (f"{AGENTS}/{LABEL}", {"ok": True, "label": LABEL}),
        (
            f"{AGENTS}/enroll",
            {"ok": True, "token": "ab" * 32, "label": LABEL, "expiresAt": ENDS_SHOWN},
        ),
        (f"{AGENTS}/enroll/{LABEL}", {"ok": True, "label": LABEL}),
        (f"{AGENTS}/renew", {**SIGNED_SHOWN, "label": LABEL}),
        (
            f"{AGENTS}/me",
            {
                key: SHOWN[key]
                for key in SHOWN
                if key not in {"createdAt", "revoked", "expiringSoon"}
            },
        ),
    ],
)
async def test_answers_to_the_letter(
    admin: httpx2.AsyncClient, path: str, answered: dict[str, Any]
) -> None:
    endpoint = next(one for one in EVERY if one[1] == path)
    answer = await call(admin, endpoint)
    assert (answer.status_code, answer.json()) == (200, answered)
    assert answer.headers["x-request-id"]


async def test_agents_are_created_and_listed_to_the_letter(admin: httpx2.AsyncClient) -> None:
    assert (await admin.post(AGENTS, json=NEW_AGENT)).json() == CREATED
    assert (await admin.get(AGENTS)).json() == {"agents": [SHOWN]}


async def test_enrolment_asks_for_no_certificate(
    anybody: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    headers = {"Idempotency-Key": "7"}
    answer = await anybody.post("/api/enroll", json={"token": TOKEN, "csr": CSR}, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {**SIGNED_SHOWN, "label": LABEL})
    (sent,) = stand_in.heard_of(EnrollAgent)
    assert (sent.token, sent.csr_pem) == (TOKEN, CSR)
    assert sent.call.idempotency
    assert sent.call.idempotency.scope == hashlib.sha256(TOKEN.encode()).hexdigest()


@pytest.mark.parametrize(
    ("path", "name"),
    [("/api/certs/mtls/download", "client"), (f"{AGENTS}/{LABEL}/download", LABEL)],
)
async def test_files_are_downloaded_as_attachments(
    admin: httpx2.AsyncClient, stand_in: StandIn, path: str, name: str
) -> None:
    for query, legacy in (("", False), ("?format=legacy", True)):
        answer = await admin.get(path + query)
        assert (answer.status_code, answer.content) == (200, b"\x30\x00\xff")
        assert answer.headers["content-type"] == "application/x-pkcs12"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}.p12"'
        assert answer.headers["cache-control"] == "no-store"
        assert stand_in.heard[-1].model_dump()["legacy"] is legacy
    assert invalid(await admin.get(f"{path}?format=pkcs8")) == [["format"]]


async def test_the_overview_begins_with_what_ends_first(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    ends = utc_now() + timedelta(days=30, hours=5)
    later = ends + timedelta(days=1)
    stand_in.answers[GetMtlsCertificates] = MtlsCertificates(
        ca_expires_at=later, admin_expires_at=ends
    )
    answer = await admin.get("/api/certs")
    first, second = answer.json()["certs"]
    assert first == {
        "type": "mtls-client",
        "domain": None,
        "expiresAt": ends.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ends.microsecond // 1000:03}Z",
        "daysUntilExpiry": 30,
        "path": "/etc/portlama/pki/client.crt",
        "expiringSoon": True,
    }
    assert (second["type"], second["path"]) == ("mtls-ca", "/etc/portlama/pki/ca.crt")
    assert (second["daysUntilExpiry"], second["expiringSoon"]) == (31, False)


async def test_a_certificate_that_ended_counts_backwards(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    ended = utc_now() - timedelta(hours=1)
    stand_in.answers[GetMtlsCertificates] = MtlsCertificates(
        ca_expires_at=ended, admin_expires_at=ended
    )
    for row in (await admin.get("/api/certs")).json()["certs"]:
        assert (row["daysUntilExpiry"], row["expiringSoon"]) == (-1, True)


async def test_revoked_agents_do_not_expire_soon(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    soon = AGENT.model_copy(update={"expires_at": utc_now() + timedelta(days=30, hours=1)})
    revoked = soon.model_copy(update={"revoked": True})
    stand_in.answers[ListAgents] = AgentPage(agents=(soon, revoked), next_cursor=None)
    listed = (await admin.get(AGENTS)).json()["agents"]
    assert [agent["expiringSoon"] for agent in listed] == [True, False]


async def test_the_state_of_the_platform(admin: httpx2.AsyncClient) -> None:
    for path, answered in (("onboarding/status", "COMPLETED"), ("health", "ok")):
        answer = await admin.get(f"/api/{path}")
        assert (answer.status_code, answer.json()) == (200, {"status": answered})


async def test_the_state_of_the_platform_for_an_instance(
    admin: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    """The registry does not know its certificate, and is not asked: it would record a refusal."""
    stand_in.principals.pop(leaf.sha256)
    for path in ("health", "certs/auto-renew-status"):
        answer = await admin.get(f"/api/{path}")
        nobodys = {"error": "Certificate is not accepted"}
        assert (answer.status_code, answer.json()) == (403, nobodys)
    asked = len(stand_in.heard_of(ResolveCredentials))
    principal = Principal(kind=PrincipalKind.INSTANCE, id="1", name="app-1")
    stand_in.answers[ResolveInstance] = ResolvedInstance(principal=principal)
    for path in ("/api/health", "/api/onboarding/status"):
        assert (await admin.get(path)).status_code == 200
    assert (await admin.get("/api/certs/auto-renew-status")).status_code == 403
    assert len(stand_in.heard_of(ResolveCredentials)) == asked + 1


async def test_the_state_of_the_platform_without_the_instance_service(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.answers[ResolveInstance] = CertwireError(ErrorCode.UNAVAILABLE)
    assert (await admin.get("/api/health")).status_code == 200


# --- Certificates of domains -------------------------------------------------------------------

RENEW_DOMAIN = "/api/certs/app.example.com/renew"
AWAY = [
    ErrorCode.UNAVAILABLE,
    ErrorCode.OUTCOME_UNKNOWN,
    ErrorCode.OVERLOADED,
    ErrorCode.INTERNAL,
]


def of_domain(name: str, days: float, *, revoked: bool = False) -> DomainCertificate:
    return DomainCertificate(
        domain=name,
        expires_at=utc_now() + timedelta(days=days),
        revoked=revoked,
        path=f"/srv/live/{name.replace('*', '_wildcard')}/fullchain.pem",
    )


async def test_certificates_of_domains_stand_among_the_others(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    found = (
        of_domain("app.example.com", 30.5),
        of_domain("*.example.com", 90.5),
        of_domain("old.example.com", -0.5),
        of_domain("gone.example.com", 1.5, revoked=True),
    )
    page = DomainCertificatePage(certificates=found, next_cursor=None)
    stand_in.answers[ListDomainCertificates] = page
    rows = (await admin.get("/api/certs")).json()["certs"]
    assert [row["domain"] for row in rows] == [
        "old.example.com",
        "gone.example.com",
        "app.example.com",
        "*.example.com",
        None,
        None,
    ]
    assert [row["daysUntilExpiry"] for row in rows[:4]] == [-1, 1, 30, 90]
    assert [row["expiringSoon"] for row in rows[:4]] == [True, False, True, False]
    assert {row["type"] for row in rows[:4]} == {"letsencrypt"}
    assert rows[3]["path"] == "/srv/live/_wildcard.example.com/fullchain.pem"
    assert {command.actor for command in stand_in.heard_of(ListDomainCertificates)} == {ADMIN}


async def test_as_many_domains_are_listed_as_agents(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    one = of_domain("app.example.com", 7.5)

    async def page(asked: ListDomainCertificates) -> Message:
        first = int(asked.cursor or 0)
        last = min(first + asked.limit, 10_003)
        return DomainCertificatePage(
            certificates=(one,) * (last - first), next_cursor=str(last) if last < 10_003 else None
        )

    stand_in.answers[ListDomainCertificates] = page
    rows = (await admin.get("/api/certs")).json()["certs"]
    assert len(rows) == 10_002
    assert len(stand_in.heard_of(ListDomainCertificates)) == 20


@pytest.mark.parametrize("error", AWAY)
async def test_one_source_is_told_without_the_other(
    admin: httpx2.AsyncClient, stand_in: StandIn, error: ErrorCode
) -> None:
    away = CertwireError(error, "a secret")
    page = DomainCertificatePage(certificates=(of_domain("a.example.com", 9),), next_cursor=None)
    for gone, there, rows in (
        (ListDomainCertificates, {GetMtlsCertificates: ANSWERS[GetMtlsCertificates]}, 2),
        (GetMtlsCertificates, {ListDomainCertificates: page}, 1),
    ):
        stand_in.says({**there, gone: away})
        answer = await admin.get("/api/certs")
        assert (answer.status_code, len(answer.json()["certs"])) == (200, rows)
    stand_in.says({GetMtlsCertificates: away, ListDomainCertificates: away})
    answer = await admin.get("/api/certs")
    assert answer.status_code >= 500, "an empty list would be a lie"
    assert "secret" not in answer.text


@pytest.mark.parametrize("error", AWAY)
async def test_a_schedule_that_nobody_knows_is_not_active(
    admin: httpx2.AsyncClient, stand_in: StandIn, error: ErrorCode
) -> None:
    stand_in.answers[GetRenewalSchedule] = CertwireError(error)
    answer = await admin.get("/api/certs/auto-renew-status")
    nothing = {"active": False, "nextRun": None, "lastRun": None}
    assert (answer.status_code, answer.json()) == (200, nothing)


async def test_a_renewal_waits_for_its_order(admin: httpx2.AsyncClient, stand_in: StandIn) -> None:
    warning = "Certificate renewed but nginx reload failed"
    stand_in.says({RenewDomain: ORDER, GetOrder: ended(warning=warning)})
    answer = await admin.post(RENEW_DOMAIN, headers={"Idempotency-Key": "7"})
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "ok": True,
            "domain": "app.example.com",
            "newExpiry": "2026-04-19T12:00:00.999Z",
            "warning": warning,
        },
    )
    (begun,) = stand_in.heard_of(RenewDomain)
    assert (begun.domain, begun.actor) == ("app.example.com", ADMIN)
    assert begun.call.idempotency
    assert {asked.actor for asked in stand_in.heard_of(GetOrder)} == {ADMIN}


async def test_an_expiry_that_cannot_be_read_is_null(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.answers[RenewDomain] = ended(certificate=None)
    assert (await admin.post(RENEW_DOMAIN)).json()["newExpiry"] is None


@pytest.mark.parametrize("by", ["command", "order"])
@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        (ErrorCode.ORDER_FAILED, None),
        (ErrorCode.CA_UNAVAILABLE, 60),
    ],
)
async def test_a_renewal_that_failed_is_500_with_the_reason(
    admin: httpx2.AsyncClient,
    stand_in: StandIn,
    by: str,
    error: ErrorCode,
    retry_after: int | None,
) -> None:
    reason = "HTTP-01 challenge failed: Could not verify domain ownership"
    stand_in.answers[RenewDomain] = (
        CertwireError(error, reason, retry_after_seconds=retry_after)
        if by == "command"
        else failed(error, reason, retry_after_seconds=retry_after)
    )
    answer = await admin.post(RENEW_DOMAIN)
    assert answer.status_code == 500
    assert answer.json() == {"error": "Certificate renewal failed", "details": reason}
    assert answer.headers.get("retry-after") == (retry_after and str(retry_after))


async def test_a_renewal_that_takes_too_long_is_500(
    nats_home: NatsHome, services: StandIn, leaf: Leaf, tmp_path: Path
) -> None:
    services.says({RenewDomain: ORDER, GetOrder: ORDER})
    settings = gateway_settings(nats_home, tmp_path, order_seconds=1, deadline_seconds=1)
    async with (
        running_gateway(settings) as gateway,
        client(gateway, services.authority, leaf) as admin,
    ):
        answer = await admin.post(RENEW_DOMAIN)
        assert answer.status_code == 500
        assert set(answer.json()) == {"error", "details"}
        assert answer.json()["error"] == "Certificate renewal failed"
        assert "goes on" in answer.json()["details"]
        services.answers[RenewDomain] = CertwireError(ErrorCode.OUTCOME_UNKNOWN)
        assert (await admin.post(RENEW_DOMAIN)).status_code == 500
        delivered = ended(state=OrderState.PENDING)
        services.says({RenewDomain: delivered, GetOrder: delivered})
        answer = await admin.post(RENEW_DOMAIN)
        assert answer.status_code == 200, "it is renewed, though the reload goes on"
        assert answer.json()["warning"] == "Certificate renewed but nginx reload failed"


@pytest.mark.parametrize("name", ["192.0.2.1", "a.7", f"{'0' * 63}.{'1' * 63}"])
async def test_what_is_no_name_has_no_certificate(
    admin: httpx2.AsyncClient, stand_in: StandIn, name: str
) -> None:
    """The specification's pattern lets addresses through."""
    answer = await admin.post(f"/api/certs/{name}/renew")
    assert (answer.status_code, answer.json()) == (404, {"error": "Certificate not found"})
    assert not stand_in.heard_of(RenewDomain)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ErrorCode.NOT_FOUND, 404, "Certificate not found"),
        (ErrorCode.AGAINST_POLICY, 404, "Certificate not found"),
        (ErrorCode.CONFLICT, 409, "Another order goes on"),
        (ErrorCode.UNAVAILABLE, 503, "Service unavailable"),
    ],
)
async def test_a_renewal_that_never_began(
    admin: httpx2.AsyncClient, stand_in: StandIn, error: ErrorCode, status: int, text: str
) -> None:
    stand_in.answers[RenewDomain] = CertwireError(error, "Another order goes on")
    answer = await admin.post(RENEW_DOMAIN)
    assert (answer.status_code, answer.json()["error"]) == (status, text)


# --- Lists -------------------------------------------------------------------------------------


@pytest.fixture
def many(stand_in: StandIn, admin: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """Let there be 10,003 agents; their cursors are numbers."""

    def agent(number: int) -> Agent:
        return AGENT.model_copy(update={"label": f"a{number}"})

    async def page(asked: ListAgents) -> Message:
        first = int(asked.cursor or 0)
        last = min(first + asked.limit, 10_003)
        return AgentPage(
            agents=tuple(map(agent, range(first, last))),
            next_cursor=str(last) if last < 10_003 else None,
        )

    stand_in.answers[ListAgents] = page
    return admin


async def test_all_agents_are_listed_up_to_10000(
    many: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    answer = (await many.get(AGENTS)).json()
    assert [agent["label"] for agent in answer["agents"]] == [f"a{n}" for n in range(10_000)]
    assert answer["nextCursor"] == "10000"
    assert {asked.limit for asked in stand_in.heard_of(ListAgents)} == {500}


async def test_agents_are_listed_page_by_page(many: httpx2.AsyncClient) -> None:
    answer = (await many.get(AGENTS, params={"limit": 2, "cursor": "9999"})).json()
    assert [agent["label"] for agent in answer["agents"]] == ["a9999", "a10000"]
    assert answer["nextCursor"] == "10001"
    answer = (await many.get(AGENTS, params={"cursor": "10001"})).json()
    assert (len(answer["agents"]), answer["nextCursor"]) == (2, None)


@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "1e2", "\u0661"])
async def test_a_page_has_1_to_500_agents(many: httpx2.AsyncClient, limit: str) -> None:
    assert invalid(await many.get(AGENTS, params={"limit": limit})) == [["limit"]]


async def test_a_cursor_that_is_none_is_400(many: httpx2.AsyncClient, stand_in: StandIn) -> None:
    stand_in.answers[ListAgents] = CertwireError(
        ErrorCode.INVALID_REQUEST, "not a cursor", parameters={"field": "cursor"}
    )
    assert invalid(await many.get(AGENTS, params={"cursor": "x"})) == [["cursor"]]


# --- What is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", EVERY, ids=lambda one: f"{one[0]} {one[1]}")
async def test_without_a_certificate_it_is_403_with_a_hint(
    anybody: httpx2.AsyncClient, stand_in: StandIn, endpoint: tuple[str, str, object]
) -> None:
    """Ahead of the body, and whatever headers there are; nobody is asked."""
    method, path, _ = endpoint
    headers = {"Authorization": "Bearer a-superusers", "X-SSL-Client-Verify": "SUCCESS"}
    answer = await anybody.request(method, path, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"] == "mTLS certificate required"
    assert set(answer.json()["details"]) == {"hint"}
    assert not asked_after(stand_in, 0)


@pytest.mark.parametrize("endpoint", EVERY, ids=lambda one: f"{one[0]} {one[1]}")
async def test_who_may_not_is_403(
    admin: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf, endpoint: tuple[str, str, object]
) -> None:
    for error in (ErrorCode.FORBIDDEN, ErrorCode.CREDENTIAL_REFUSED):
        stand_in.says(dict.fromkeys(ANSWERS, CertwireError(error, "the registry's words")))
        stand_in.principals.pop(leaf.sha256, None)
        answer = await call(admin, endpoint)
        assert (answer.status_code, set(answer.json())) == (403, {"error"})
        assert "registry" not in answer.text


async def test_an_agent_is_not_the_administrator(
    admin: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    """Where the gateway has to say so itself."""
    stand_in.know(leaf, AN_AGENT)
    kinds = (GetMtlsCertificates, ListDomainCertificates, GetRenewalSchedule, RenewDomain)
    for path in ("/api/certs", "/api/certs/auto-renew-status", RENEW_DOMAIN):
        answer = await admin.request("POST" if path.endswith("renew") else "GET", path)
        assert answer.status_code == 403
    assert not [command for command in stand_in.heard if isinstance(command, kinds)]


@pytest.mark.parametrize(
    ("endpoint", "error", "status", "text"),
    [
        (("POST", "/api/certs/mtls/rotate", None), ErrorCode.GONE, 410, GONE.format("rotation")),
        (
            ("POST", "/api/certs/mtls/rotate", None),
            ErrorCode.CA_CANNOT_SIGN,
            500,
            "CA key not found — cannot sign new certificate",
        ),
        (("GET", "/api/certs/mtls/download", None), ErrorCode.GONE, 410, GONE.format("download")),
        (
            ("GET", "/api/certs/mtls/download", None),
            ErrorCode.NOT_FOUND,
            404,
            "No client certificate found",
        ),
        (("POST", AGENTS, NEW_AGENT), ErrorCode.ALREADY_EXISTS, 409, EXISTS),
        (
            ("POST", AGENTS, NEW_AGENT),
            ErrorCode.CA_CANNOT_SIGN,
            500,
            "Agent certificate generation failed: the CA cannot sign",
        ),
        (("GET", f"{AGENTS}/{LABEL}/download", None), ErrorCode.NOT_FOUND, 404, NOT_FOUND),
        (
            ("PATCH", f"{AGENTS}/{LABEL}/capabilities", {"capabilities": ["tunnels:read"]}),
            ErrorCode.NOT_FOUND,
            404,
            NOT_FOUND,
        ),
        (
            ("PATCH", f"{AGENTS}/{LABEL}/allowed-sites", {"allowedSites": []}),
            ErrorCode.NOT_FOUND,
            404,
            NOT_FOUND,
        ),
        (("DELETE", f"{AGENTS}/{LABEL}", None), ErrorCode.NOT_FOUND, 404, NOT_FOUND),
        (("POST", f"{AGENTS}/enroll", NEW_AGENT), ErrorCode.ALREADY_EXISTS, 409, EXISTS),
        (
            ("POST", f"{AGENTS}/enroll", NEW_AGENT),
            ErrorCode.TOKEN_PENDING,
            409,
            f'An active enrollment token for label "{LABEL}" already exists',
        ),
        (
            ("POST", "/api/certs/admin/upgrade-to-hardware-bound", {"csr": CSR}),
            ErrorCode.CONFLICT,
            409,
            "Admin is already using hardware-bound authentication",
        ),
        (
            ("POST", "/api/certs/admin/upgrade-to-hardware-bound", {"csr": CSR}),
            ErrorCode.INVALID_CSR,
            400,
            INVALID_CSR,
        ),
        (
            ("POST", "/api/certs/admin/upgrade-to-hardware-bound", {"csr": CSR}),
            ErrorCode.CA_CANNOT_SIGN,
            500,
            "Admin upgrade failed",
        ),
        (("POST", f"{AGENTS}/renew", {"csr": CSR}), ErrorCode.INVALID_CSR, 400, INVALID_CSR),
    ],
)
async def test_errors_to_the_letter(
    admin: httpx2.AsyncClient,
    stand_in: StandIn,
    endpoint: tuple[str, str, object],
    error: ErrorCode,
    status: int,
    text: str,
) -> None:
    stand_in.says(dict.fromkeys(ANSWERS, CertwireError(error, "the registry's words")))
    answer = await call(admin, endpoint)
    assert (answer.status_code, answer.json()) == (status, {"error": text})


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ErrorCode.INVALID_CSR, 400, INVALID_CSR),
        (ErrorCode.TOKEN_UNKNOWN, 401, "Invalid enrollment token"),
        (ErrorCode.TOKEN_USED, 401, "Enrollment token has already been used"),
        (ErrorCode.TOKEN_EXPIRED, 401, "Enrollment token has expired"),
        (ErrorCode.CA_CANNOT_SIGN, 500, "Enrollment failed"),
        (ErrorCode.ALREADY_EXISTS, 409, EXISTS),
    ],
)
async def test_errors_of_an_enrolment_to_the_letter(
    anybody: httpx2.AsyncClient, stand_in: StandIn, error: ErrorCode, status: int, text: str
) -> None:
    stand_in.answers[EnrollAgent] = CertwireError(error, "words", parameters={"label": LABEL})
    answer = await anybody.post("/api/enroll", json={"token": TOKEN, "csr": CSR})
    assert (answer.status_code, answer.json()) == (status, {"error": text})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/api/certs/mtls/rotate", "mTLS rotation failed: internal error"),
        ("/api/certs/mtls/download", "Failed to download certificate"),
        ("/api/certs/admin/upgrade-to-hardware-bound", "Admin upgrade failed"),
        (AGENTS, "Agent certificate generation failed: internal error"),
        (f"{AGENTS}/{LABEL}", "Internal server error"),
    ],
)
async def test_trouble_inside_is_the_specified_500_with_the_request_id(
    admin: httpx2.AsyncClient, stand_in: StandIn, path: str, text: str
) -> None:
    stand_in.says(dict.fromkeys(ANSWERS, CertwireError(ErrorCode.INTERNAL, "a secret")))
    answer = await call(admin, next(one for one in EVERY if one[1] == path))
    assert answer.status_code == 500
    assert answer.json() == {"error": text, "requestId": answer.headers["x-request-id"]}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ErrorCode.UNAVAILABLE, 503),
        (ErrorCode.OVERLOADED, 503),
        (ErrorCode.OUTCOME_UNKNOWN, 504),
        (ErrorCode.IDEMPOTENCY_SECRET_SHOWN, 409),
        (ErrorCode.RATE_LIMITED, 429),
    ],
)
async def test_trouble_of_the_platform(
    admin: httpx2.AsyncClient, stand_in: StandIn, error: ErrorCode, status: int
) -> None:
    stand_in.answers[CreateAgent] = CertwireError(error, "", retry_after_seconds=3)
    answer = await admin.post(AGENTS, json=NEW_AGENT)
    assert answer.status_code == status
    assert answer.headers["retry-after"] == "3"


# --- Before the platform is set up -------------------------------------------------------------

FRESH = OnboardingStatus(status=Onboarding.FRESH)


@pytest.mark.parametrize(
    "endpoint",
    [*EVERY, ("POST", "/api/enroll", {"token": TOKEN, "csr": CSR})],
    ids=lambda one: f"{one[0]} {one[1]}",
)
async def test_before_onboarding_everything_is_503(
    admin: httpx2.AsyncClient,
    anybody: httpx2.AsyncClient,
    stand_in: StandIn,
    endpoint: tuple[str, str, object],
) -> None:
    """Ahead of the 403 and of the 400."""
    stand_in.answers[GetOnboarding] = FRESH
    for caller in (admin, anybody):
        for body in (endpoint[2], None):
            answer = await call(caller, (endpoint[0], endpoint[1], body))
            assert answer.status_code == 503
            assert set(answer.json()) == {"error", "onboardingStatus", "requestId"}
            assert answer.json()["onboardingStatus"] == "FRESH"


async def test_the_state_is_told_before_onboarding_to_those_with_a_certificate(
    admin: httpx2.AsyncClient, anybody: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.answers[GetOnboarding] = FRESH
    assert (await admin.get("/api/onboarding/status")).json() == {"status": "FRESH"}
    assert (await admin.get("/api/health")).json() == {"status": "ok"}
    for path in ("/api/onboarding/status", "/api/health"):
        answer = await anybody.get(path)
        assert (answer.status_code, answer.json()["error"]) == (403, "mTLS certificate required")


async def test_what_is_completed_is_remembered(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.answers[GetOnboarding] = FRESH
    assert (await admin.get("/api/certs")).status_code == 503
    del stand_in.answers[GetOnboarding]
    assert (await admin.get("/api/certs")).status_code == 200
    asked = len(stand_in.heard_of(GetOnboarding))
    stand_in.answers[GetOnboarding] = CertwireError(ErrorCode.UNAVAILABLE)
    assert (await admin.get("/api/certs")).status_code == 200
    assert len(stand_in.heard_of(GetOnboarding)) == asked


async def test_before_init_the_state_is_503_too(
    anybody: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.answers[GetOnboarding] = CertwireError(ErrorCode.NOT_INITIALISED)
    for path in ("/api/onboarding/status", "/api/health", "/api/certs"):
        answer = await anybody.get(path)
        assert (answer.status_code, answer.json()["onboardingStatus"]) == (503, "FRESH")


# --- Path and body -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"label": ""}, ["label"]),
        ({"label": "-a"}, ["label"]),
        ({"label": "a-"}, ["label"]),
        ({"label": "a" * 51}, ["label"]),
        ({"label": "Macbook"}, ["label"]),
        ({"label": "a\n"}, ["label"]),
        ({"label": "a\u0661"}, ["label"]),
        ({"label": "../a"}, ["label"]),
        ({"label": 7}, ["label"]),
        ({"label": None}, ["label"]),
        ({"capabilities": []}, ["capabilities"]),
        ({"capabilities": ["system:read"]}, ["capabilities"]),
        ({"capabilities": ["tunnels:read", "root"]}, ["capabilities", 1]),
        ({"capabilities": "tunnels:read"}, ["capabilities"]),
        ({"capabilities": None}, ["capabilities"]),
        ({"allowedSites": [""]}, ["allowedSites", 0]),
        ({"allowedSites": ["blog", "a/b"]}, ["allowedSites", 1]),
        ({"allowedSites": ["a\\b"]}, ["allowedSites", 0]),
        ({"allowedSites": [".."]}, ["allowedSites", 0]),
        ({"allowedSites": ["a\u0000"]}, ["allowedSites", 0]),
        ({"allowedSites": ["a\u202eb"]}, ["allowedSites", 0]),
        ({"allowedSites": ["s" * 101]}, ["allowedSites", 0]),
        ({"allowedSites": "blog"}, ["allowedSites"]),
    ],
)
async def test_an_invalid_agent_says_where(
    admin: httpx2.AsyncClient, stand_in: StandIn, change: dict[str, Any], where: list[str | int]
) -> None:
    for path in (AGENTS, f"{AGENTS}/enroll"):
        answer = await admin.post(path, json={**NEW_AGENT, **change})
        assert invalid(answer) == [where]
    assert not stand_in.heard_of(CreateAgent)


async def test_a_list_that_is_too_long_is_one_issue(admin: httpx2.AsyncClient) -> None:
    """And of many that are wrong not all are named: an answer is no longer than its request."""
    for item in ("", "blog", 7):
        answer = await admin.post(AGENTS, json={**NEW_AGENT, "allowedSites": [item] * 101})
        assert invalid(answer) == [["allowedSites"]]
    wrong = {"capabilities": [""] * 100, "allowedSites": [""] * 100}
    assert len(invalid(await admin.post(AGENTS, json={**NEW_AGENT, **wrong}))) == 100


@pytest.mark.parametrize("label", ["a", "0", "a-b", "a" * 50])
async def test_a_label_has_1_to_50_characters(
    admin: httpx2.AsyncClient, stand_in: StandIn, label: str
) -> None:
    assert (await admin.post(AGENTS, json={"label": label})).status_code == 200
    (sent,) = stand_in.heard_of(CreateAgent)
    assert (sent.label, sent.capabilities, sent.allowed_sites) == (label, ("tunnels:read",), ())


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {}),
        (b"", {}),
        (b"[]", {}),
        (b'"label"', {}),
        (b'{"label":"a","label":"b"}', {}),
        (b'{"label":"a"}', {"Content-Type": "text/plain"}),
        (b"[" * 10_000, {}),
    ],
)
async def test_a_body_that_is_none_is_400(
    admin: httpx2.AsyncClient, body: bytes, headers: dict[str, str]
) -> None:
    headers = {"Content-Type": "application/json", **headers}
    assert invalid(await admin.post(AGENTS, content=body, headers=headers)) == [[]]


@pytest.mark.parametrize("label", ["Upper", "a_b", "a.b", "-", "a%0a", "%00", "a" * 51, "..%20"])
async def test_a_label_in_the_path_is_checked_first(
    admin: httpx2.AsyncClient, stand_in: StandIn, label: str
) -> None:
    """Before a certificate is looked at, too: the stand-in is asked for nothing."""
    heard = len(stand_in.heard)
    for method, path, body in EVERY:
        if f"/{LABEL}" in path:
            answer = await call(admin, (method, path.replace(LABEL, label), body))
            assert invalid(answer) == [["label"]]
    assert not asked_after(stand_in, heard)


async def test_a_label_that_is_a_path_is_404(admin: httpx2.AsyncClient) -> None:
    for label in ("..%2f..%2fetc", "a%2fb", "a/b"):
        answer = await admin.get(f"{AGENTS}/{label}/download")
        assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})


@pytest.mark.parametrize(
    "domain", ["localhost", "EXAMPLE.com", "-a.com", "a..b", "a.com%0a", "mtls", "agent", "a_b.com"]
)
async def test_a_domain_is_checked(admin: httpx2.AsyncClient, domain: str) -> None:
    if domain == "agent":  # a path of its own: it comes first
        assert invalid(await admin.post("/api/certs/agent/renew")) == [[]]
    else:
        assert invalid(await admin.post(f"/api/certs/{domain}/renew")) == [["domain"]]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, [["token"], ["csr"]]),
        ({"token": TOKEN}, [["csr"]]),
        ({"token": "", "csr": CSR}, [["token"]]),
        ({"token": 7, "csr": CSR}, [["token"]]),
        ({"token": TOKEN, "csr": "MIIC"}, [["csr"]]),
        ({"token": TOKEN, "csr": "x" * 9000}, [["csr"]]),
        ({"token": TOKEN, "csr": CSR.replace(" REQUEST", "")}, [["csr"]]),
    ],
)
async def test_an_invalid_enrolment_says_where(
    anybody: httpx2.AsyncClient, stand_in: StandIn, body: dict[str, Any], where: list[list[str]]
) -> None:
    assert invalid(await anybody.post("/api/enroll", json=body)) == where
    assert not stand_in.heard_of(EnrollAgent)


async def test_a_csr_has_at_most_8192_bytes(admin: httpx2.AsyncClient, stand_in: StandIn) -> None:
    """Bytes, not characters; more are refused before the token is looked at."""
    fits, large = CSR.ljust(8192), CSR.ljust(8190) + "é" + " "
    for path, more in (
        ("/api/enroll", {"token": TOKEN}),
        ("/api/certs/admin/upgrade-to-hardware-bound", {}),
        (f"{AGENTS}/renew", {}),
    ):
        answer = await admin.post(path, json={"csr": large, **more})
        assert (answer.status_code, answer.json()) == (400, {"error": "CSR too large"})
        assert (await admin.post(path, json={"csr": fits, **more})).status_code == 200
    for kind in (EnrollAgent, UpgradeAdmin, RenewAgent):
        assert len(stand_in.heard_of(kind)) == 1


async def test_an_unknown_path_and_method_in_the_dialects_shape(
    admin: httpx2.AsyncClient,
) -> None:
    for path in ("/api/certs/", "/api/certs/nothing", "/api/enroll/x", f"{AGENTS}/a/b/c"):
        answer = await admin.get(path)
        assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})
    answer = await admin.put(AGENTS)
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})
    assert answer.headers["allow"] == "GET, POST"


async def test_an_idempotency_key_that_cannot_be_kept_is_400(admin: httpx2.AsyncClient) -> None:
    answer = await admin.post(AGENTS, json=NEW_AGENT, headers={"Idempotency-Key": "a b"})
    assert invalid(answer) == [["Idempotency-Key"]]


async def test_a_repeat_belongs_to_the_certificate(
    admin: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    await admin.post(AGENTS, json=NEW_AGENT, headers={"Idempotency-Key": "7"})
    (sent,) = stand_in.heard_of(CreateAgent)
    assert sent.call.idempotency
    assert (sent.call.idempotency.scope, sent.call.idempotency.key) == (leaf.sha256, "7")


# --- Authorisation for services behind a proxy -------------------------------------------------


async def test_authorize_says_yes_without_a_word(
    admin: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    answer = await admin.get(f"{AUTHORIZE}?capability=sites:read&site=my%20blog")
    assert (answer.status_code, answer.content) == (204, b"")
    (sent,) = stand_in.heard_of(AuthorizeAgent)
    assert (sent.capability, sent.site) == ("sites:read", "my blog")
    assert sent.credential
    assert sent.credential.sha256 == leaf.sha256


@pytest.mark.parametrize(
    "query",
    [
        "capability=root",
        "capability=",
        "capability=sites:read&site=..",
        "capability=sites:read&site=a%2fb",
        "capability=sites:read&site=%00",
    ],
)
async def test_what_nobody_has_is_403(
    admin: httpx2.AsyncClient, stand_in: StandIn, query: str
) -> None:
    assert (await admin.get(f"{AUTHORIZE}?{query}")).status_code == 403
    assert not stand_in.heard_of(AuthorizeAgent)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("", "capability"),
        ("site=blog", "capability"),
        ("capability=sites:read&capability=system:read", "capability"),
        ("capability=sites:read&site=blog&site=docs", "site"),
    ],
)
async def test_a_question_of_two_meanings_is_400(
    admin: httpx2.AsyncClient, query: str, where: str
) -> None:
    assert invalid(await admin.get(f"{AUTHORIZE}?{query}")) == [[where]]


def rfc9440(leaf: Leaf) -> bytes:
    return b":" + base64.b64encode(leaf.certificate.public_bytes(Encoding.DER)) + b":"


def of_nginx(leaf: Leaf) -> bytes:
    return quote(leaf.certificate.public_bytes(Encoding.PEM)).encode()


@pytest.fixture
async def proxy(
    nats_home: NatsHome, services: StandIn, tmp_path: Path
) -> AsyncIterator[httpx2.AsyncClient]:
    """Call with the certificate of a trusted proxy."""
    services.says(ANSWERS)
    leaf = services.authority.client("agent:edge")
    services.know(leaf, Principal(kind=PrincipalKind.AGENT, id="2", name="edge"))
    settings = gateway_settings(nats_home, tmp_path, proxy_agents="other, edge")
    async with (
        running_gateway(settings) as gateway,
        client(gateway, services.authority, leaf) as connection,
    ):
        yield connection


QUESTION = f"{AUTHORIZE}?capability=sites:read"


async def test_a_trusted_proxy_asks_for_its_client(
    proxy: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    agent = stand_in.authority.client("agent:a")
    for write in (rfc9440, of_nginx):
        answer = await proxy.get(QUESTION, headers={b"Client-Cert": write(agent)})
        assert answer.status_code == 204
        credential = stand_in.heard_of(AuthorizeAgent)[-1].credential
        assert credential
        assert credential.sha256 == agent.sha256


async def test_a_trusted_proxy_stands_for_nobody_itself(
    proxy: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    ended = stand_in.authority.client(lifetime=timedelta(seconds=-1))
    agent = stand_in.authority.client()
    for values in (
        [],
        [b""],
        [b"x"],
        [b"::"],
        [b":AAAA:"],
        [rfc9440(agent)[:-9]],
        [rfc9440(ended)],
        [rfc9440(agent), rfc9440(agent)],
        [of_nginx(agent) * 2],
    ):
        answer = await proxy.get(QUESTION, headers=[(b"Client-Cert", value) for value in values])
        assert answer.status_code == 403
    assert not stand_in.heard_of(AuthorizeAgent)


async def test_a_proxys_word_counts_nowhere_else(
    proxy: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    """Certificates are public: with the administrator's, a proxy would be the administrator."""
    answer = await proxy.get("/api/certs", headers={b"Client-Cert": rfc9440(leaf)})
    assert answer.status_code == 403
    await proxy.get(f"{AGENTS}/me", headers={b"Client-Cert": rfc9440(leaf)})
    (sent,) = stand_in.heard_of(GetOwnAgent)
    assert sent.credential
    assert sent.credential.sha256 != leaf.sha256


@pytest.mark.parametrize(
    "principal",
    [
        AN_AGENT,
        Principal(kind=PrincipalKind.ADMIN, id="edge", name="edge"),
        None,
    ],
)
async def test_anybody_elses_header_is_not_looked_at(
    proxy: httpx2.AsyncClient, stand_in: StandIn, principal: Principal | None
) -> None:
    (own,) = stand_in.principals
    stand_in.principals.pop(own)
    if principal:
        stand_in.know(own, principal)
    await proxy.get(QUESTION, headers={b"Client-Cert": rfc9440(stand_in.authority.client())})
    (sent,) = stand_in.heard_of(AuthorizeAgent)
    assert sent.credential
    assert sent.credential.sha256 == own


async def test_without_trusted_proxies_nobody_is_asked_whether_it_is_one(
    admin: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    await admin.get(QUESTION, headers={b"Client-Cert": rfc9440(stand_in.authority.client())})
    (sent,) = stand_in.heard_of(AuthorizeAgent)
    assert sent.credential
    assert sent.credential.sha256 == leaf.sha256
    assert not stand_in.heard_of(ResolveCredentials)


# --- The documentation ---------------------------------------------------------------------------


async def test_the_documentation_knows_no_422(admin: httpx2.AsyncClient) -> None:
    paths = (await admin.get("/openapi.json")).json()["paths"]
    documented = {
        (method.upper(), path): operation
        for path, operations in paths.items()
        if path.startswith(("/api/certs", "/api/enroll", "/api/health", "/api/onboarding"))
        for method, operation in operations.items()
    }
    assert len(documented) == len(EVERY) + 3
    for (_, path), operation in documented.items():
        assert "422" not in operation["responses"]
        assert "503" in operation["responses"]
        public = path == "/api/enroll"
        assert operation["security"] == ([] if public else [{"certificate": []}])
