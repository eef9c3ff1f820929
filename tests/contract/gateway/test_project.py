"""The project dialect to the letter of its specification and its rulings."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from contracts.acme import (
    CheckIssuance,
    CreateProject,
    DownloadCertificate,
    FoundCertificate,
    GetOrder,
    GetPrivateKey,
    GetProject,
    GetPublicCertificate,
    ListOrders,
    ListProjects,
    ObtainCertificate,
    Order,
    OrderKind,
    OrderList,
    OrderState,
    Preflight,
    PreflightCheck,
    ProjectPage,
    RenewPublicCertificate,
    RevokePublicCertificate,
    SetDomain,
    UploadCertificate,
    ValidateCertificate,
    Validation,
)
from contracts.api_keys import ApiKeyPage, CreateApiKey, DeleteApiKey, ListApiKeys
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Message
from contracts.principal import CredentialKind
from contracts.registry import ResolveCredentials
from contracts.subjects import Service
from services.gateway import orders
from services.gateway.app import Gateway
from shared.secrets import token_hash
from tests.contract.gateway.messages import ADMIN, SUPERUSER
from tests.contract.gateway.project_messages import (
    ANSWERS,
    API_KEY,
    BEGAN_SHOWN,
    CERTIFICATE,
    CHAIN,
    DEPLOYER,
    DOMAIN,
    EARLIER_SHOWN,
    ENDS_SHOWN,
    EVERY,
    HEADERS,
    KEY,
    KEYS,
    MATERIAL,
    OBTAIN,
    OF_KEYS,
    OF_PROJECTS,
    ONE,
    ORDER,
    PEM,
    PRIVATE_KEY,
    PROJECT,
    PROJECTS,
    SHOP,
    SHOP_SHOWN,
    STORED_KEY,
    ended,
    failed,
    with_dns,
)
from tests.nats_server import NatsHome
from tests.support.authority import Leaf
from tests.support.stand_in import (
    StandIn,
    client,
    gateway_settings,
    running_gateway,
    standing_in,
)

SECRET = "do-not-say-me-back"
FACTS = {"domain": DOMAIN, "issuedAt": BEGAN_SHOWN, "expiresAt": ENDS_SHOWN}
REASON = "HTTP-01 challenge failed: Could not verify domain ownership"


@pytest.fixture
async def anybody(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    """Call without a credential."""
    stand_in.says(ANSWERS)
    stand_in.know(token_hash(KEY), DEPLOYER)
    async with client(gateway, stand_in.authority) as connection:
        yield connection


@pytest.fixture
async def tool(anybody: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """Call with an API key."""
    anybody.headers.update(HEADERS)
    return anybody


async def call(
    connection: httpx2.AsyncClient,
    endpoint: tuple[str, str, object, int],
    headers: Any = None,  # noqa: ANN401 - as the client takes them
) -> httpx2.Response:
    method, path, body, _ = endpoint
    return await connection.request(method, path, json=body, headers=headers)


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    """Return status and text of an error that is in the dialect's shape."""
    said = answer.json()
    assert said["success"] is False
    trouble = answer.status_code >= 500
    assert set(said) == {"success", "error"} | ({"requestId"} if trouble else set())
    if trouble:
        assert said["requestId"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, said["error"]


def every(endpoint: tuple[str, str, object, int]) -> str:
    return f"{endpoint[0]} {endpoint[1]}"


# --- What is answered -------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", EVERY, ids=every)
async def test_every_endpoint_answers(
    tool: httpx2.AsyncClient, endpoint: tuple[str, str, object, int]
) -> None:
    answer = await call(tool, endpoint)
    assert answer.status_code == endpoint[3], answer.text
    assert answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "body", "answered"),
    [
        ("GET", PROJECTS, None, {"projects": [SHOP_SHOWN]}),
        (
            "POST",
            f"{PROJECTS}/create",
            {"id": "shop", "name": "Shop"},
            {"success": True, "project": SHOP_SHOWN},
        ),
        ("GET", PROJECT, None, SHOP_SHOWN),
        ("DELETE", PROJECT, None, {"success": True, "message": "Project deleted"}),
        ("GET", f"{PROJECT}/domain", None, {"domain": DOMAIN}),
        (
            "POST",
            f"{PROJECT}/domain",
            {"domain": "API.Example.com"},
            {"success": True, "domain": DOMAIN},
        ),
        ("DELETE", f"{PROJECT}/domain", None, {"success": True, "message": "Domain removed"}),
        (
            "GET",
            CERTIFICATE,
            None,
            {**FACTS, "type": "letsencrypt", "issuer": "R11", "autoRenew": True},
        ),
        (
            "POST",
            f"{CERTIFICATE}/obtain",
            OBTAIN,
            {
                "success": True,
                "certificate": {**FACTS, "issuer": "Let's Encrypt", "autoRenew": True},
            },
        ),
        (
            "POST",
            f"{CERTIFICATE}/upload",
            MATERIAL,
            {
                "success": True,
                "certificate": {**FACTS, "type": "custom", "issuer": "Let's Encrypt"},
            },
        ),
        (
            "POST",
            f"{CERTIFICATE}/validate",
            MATERIAL,
            {
                "valid": True,
                "domain": DOMAIN,
                "expiresAt": ENDS_SHOWN,
                "issuer": "DigiCert Inc",
                "warnings": [],
            },
        ),
        (
            "POST",
            f"{CERTIFICATE}/renew",
            None,
            {
                "success": True,
                "certificate": {**FACTS, "issuer": "Let's Encrypt", "renewedFrom": EARLIER_SHOWN},
            },
        ),
        (
            "POST",
            f"{CERTIFICATE}/revoke",
            None,
            {"success": True, "message": "Certificate revoked"},
        ),
        (
            "GET",
            f"{CERTIFICATE}/status",
            None,
            {
                "status": "valid",
                "domain": DOMAIN,
                "expiresAt": ENDS_SHOWN,
                "daysUntilExpiry": 90,
                "autoRenew": True,
                "lastRenewAttempt": None,
                "lastRenewError": None,
            },
        ),
        ("DELETE", CERTIFICATE, None, {"success": True, "message": "Certificate removed"}),
        (
            "POST",
            f"{CERTIFICATE}/preflight",
            OBTAIN,
            {"success": True, "checks": [{"name": "dns", "ok": True, "reason": None}]},
        ),
        (
            "GET",
            f"{CERTIFICATE}/orders",
            None,
            {
                "orders": [
                    {
                        "id": str(ORDER.id),
                        "kind": "obtain",
                        "domain": DOMAIN,
                        "staging": False,
                        "state": "valid",
                        "createdAt": BEGAN_SHOWN,
                        "endedAt": ENDS_SHOWN,
                        "reason": None,
                    }
                ]
            },
        ),
    ],
)
async def test_answers_to_the_letter(
    tool: httpx2.AsyncClient, method: str, path: str, body: object, answered: object
) -> None:
    answer = await tool.request(method, path, json=body)
    assert answer.json() == answered


async def test_what_is_not_there_is_null(tool: httpx2.AsyncClient, stand_in: StandIn) -> None:
    stand_in.answers[GetPublicCertificate] = FoundCertificate(certificate=None)
    stand_in.answers[GetProject] = SHOP.model_copy(update={"domain": None})
    for path in (CERTIFICATE, f"{CERTIFICATE}/status", f"{PROJECT}/domain"):
        answer = await tool.get(path)
        assert (answer.status_code, answer.content) == (200, b"null")


async def test_an_issuer_is_named_by_what_it_has(
    tool: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    """Reads prefer the common name, changes the organisation; each takes the other."""
    for names, read, changed in (
        ({"issuer_organization": None}, "R11", "R11"),
        ({"issuer_common_name": None}, "Let's Encrypt", "Let's Encrypt"),
        ({"issuer_common_name": None, "issuer_organization": None}, "", ""),
    ):
        certificate = ONE.model_copy(update=names)
        stand_in.answers[GetPublicCertificate] = FoundCertificate(certificate=certificate)
        stand_in.answers[UploadCertificate] = certificate
        stand_in.answers[ObtainCertificate] = ended(certificate=certificate)
        assert (await tool.get(CERTIFICATE)).json()["issuer"] == read
        for path, body in (("upload", MATERIAL), ("obtain", OBTAIN)):
            answer = await tool.post(f"{CERTIFICATE}/{path}", json=body)
            assert answer.json()["certificate"]["issuer"] == changed


async def test_stagings_certificate_says_so(tool: httpx2.AsyncClient, stand_in: StandIn) -> None:
    certificate = ONE.model_copy(update={"staging": True})
    stand_in.answers[GetPublicCertificate] = FoundCertificate(certificate=certificate)
    stand_in.answers[ObtainCertificate] = ended(certificate=certificate)
    for path in (CERTIFICATE, f"{CERTIFICATE}/status"):
        assert (await tool.get(path)).json()["staging"] is True
    obtained = await tool.post(f"{CERTIFICATE}/obtain", json={**OBTAIN, "staging": True})
    assert obtained.json()["certificate"]["staging"] is True


async def test_a_failed_renewal_is_in_the_status(
    tool: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    certificate = ONE.model_copy(
        update={"last_renew_attempt": ONE.expires_at, "last_renew_error": REASON}
    )
    stand_in.answers[GetPublicCertificate] = FoundCertificate(certificate=certificate)
    status = (await tool.get(f"{CERTIFICATE}/status")).json()
    assert (status["lastRenewAttempt"], status["lastRenewError"]) == (ENDS_SHOWN, REASON)


async def test_what_cannot_be_uploaded_is_told_with_200_by_validate(
    tool: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    text = "Certificate and private key do not match"
    stand_in.answers[ValidateCertificate] = Validation(valid=False, error=text)
    answer = await tool.post(f"{CERTIFICATE}/validate", json=MATERIAL)
    assert (answer.status_code, answer.json()) == (200, {"valid": False, "error": text})
    (asked,) = stand_in.heard_of(ValidateCertificate)
    assert asked.material.model_dump() == {"certificate": PEM * 2, "private_key": PRIVATE_KEY}
    stand_in.answers[ValidateCertificate] = Validation(valid=True, warnings=("no chain",))
    answer = await tool.post(f"{CERTIFICATE}/validate", json=MATERIAL)
    assert answer.json()["warnings"] == ["no chain"]


@pytest.mark.parametrize(
    ("domain", "name"), [(DOMAIN, DOMAIN), ("*.example.com", "_wildcard.example.com")]
)
async def test_files_are_saved_under_the_domain(
    tool: httpx2.AsyncClient, stand_in: StandIn, domain: str, name: str
) -> None:
    stand_in.answers[DownloadCertificate] = CHAIN.model_copy(update={"domain": domain})
    stand_in.answers[GetPrivateKey] = STORED_KEY.model_copy(update={"domain": domain})
    for path, content, ending in (
        ("download", CHAIN.chain_pem, "pem"),
        ("private-key", PRIVATE_KEY, "key"),
    ):
        saved = await tool.get(f"{CERTIFICATE}/{path}")
        assert (saved.status_code, saved.text) == (200, content)
        assert saved.headers["content-type"] == "application/x-pem-file"
        assert saved.headers["content-disposition"] == f"attachment; filename={name}.{ending}"
    assert stand_in.heard_of(DownloadCertificate)[0].project_id == "shop"


async def test_a_preflight_fails_by_one_of_its_checks(
    tool: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    checks = (
        PreflightCheck(name="dns", ok=True),
        PreflightCheck(name="caa", ok=False, reason="CAA permits other CAs only"),
    )
    stand_in.answers[CheckIssuance] = Preflight(checks=checks)
    answer = await tool.post(f"{CERTIFICATE}/preflight", json={**OBTAIN, "staging": True})
    assert (answer.status_code, answer.json()["success"]) == (200, False)
    assert answer.json()["checks"][1] == checks[1].model_dump()
    (asked,) = stand_in.heard_of(CheckIssuance)
    assert asked.issuance.staging is True


async def test_orders_tell_why_they_failed_but_nothing_from_inside(
    tool: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    found = (failed(ErrorCode.ORDER_FAILED, REASON), failed(ErrorCode.INTERNAL, SECRET), ORDER)
    stand_in.answers[ListOrders] = OrderList(orders=found)
    answer = await tool.get(f"{CERTIFICATE}/orders", params={"limit": "3"})
    reasons = [order["reason"] for order in answer.json()["orders"]]
    assert reasons == [REASON, "Internal server error", None]
    assert stand_in.heard_of(ListOrders)[0].limit == 3
    assert SECRET not in answer.text


# --- API keys -----------------------------------------------------------------------------------

KEY_SHOWN = {
    "id": 7,
    "name": "deploy",
    "permissions": {"projects": "write", "keys": "none"},
    "createdAt": BEGAN_SHOWN,
}


async def test_a_key_is_shown_once(tool: httpx2.AsyncClient, stand_in: StandIn) -> None:
    answer = await tool.post(KEYS, json=OF_KEYS[0][2])
    assert (answer.status_code, answer.json()) == (201, {**KEY_SHOWN, "key": KEY})
    assert (await tool.get(KEYS)).json() == {"keys": [KEY_SHOWN]}
    answer = await tool.delete(f"{KEYS}/7")
    assert (answer.status_code, answer.content) == (204, b"")
    assert stand_in.heard_of(DeleteApiKey)[0].api_key_id == 7
    (made,) = stand_in.heard_of(CreateApiKey)
    assert (made.name, made.permissions) == ("deploy", API_KEY.permissions)


@pytest.mark.parametrize(
    ("headers", "kind", "secret"),
    [
        ({"Authorization": "Bearer a-superusers"}, CredentialKind.BEARER, "a-superusers"),
        ({"Authorization": f"Bearer {KEY}"}, CredentialKind.BEARER, KEY),
        (HEADERS, CredentialKind.API_KEY, KEY),
    ],
)
async def test_the_registry_itself_resolves_who_handles_keys(
    anybody: httpx2.AsyncClient,
    stand_in: StandIn,
    headers: dict[str, str],
    kind: CredentialKind,
    secret: str,
) -> None:
    for endpoint in OF_KEYS:
        assert (await call(anybody, endpoint, headers=headers)).status_code == endpoint[3]
    kinds: tuple[type[Any], ...] = (CreateApiKey, ListApiKeys, DeleteApiKey)
    credentials = [command.credential for asked in kinds for command in stand_in.heard_of(asked)]
    assert {(c.kind, c.sha256) for c in credentials} == {(kind, token_hash(secret))}
    assert not stand_in.heard_of(ResolveCredentials)


async def test_keys_are_listed_page_by_page(tool: httpx2.AsyncClient, stand_in: StandIn) -> None:
    async def page(asked: ListApiKeys) -> Message:
        first = int(asked.cursor or 0)
        last = min(first + asked.limit, 1_203)
        keys = tuple(API_KEY.model_copy(update={"id": n + 1}) for n in range(first, last))
        return ApiKeyPage(api_keys=keys, next_cursor=str(last) if last < 1_203 else None)

    stand_in.answers[ListApiKeys] = page
    everything = (await tool.get(KEYS)).json()
    assert [key["id"] for key in everything.pop("keys")] == list(range(1, 1_204))
    assert everything == {}
    part = (await tool.get(KEYS, params={"limit": 2, "cursor": "1200"})).json()
    assert ([key["id"] for key in part["keys"]], part["nextCursor"]) == ([1201, 1202], "1202")


async def test_projects_are_listed_page_by_page(
    tool: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    async def page(asked: ListProjects) -> Message:
        first = int(asked.cursor or 0)
        last = min(first + asked.limit, 10_003)
        found = tuple(SHOP.model_copy(update={"id": f"p{n}"}) for n in range(first, last))
        return ProjectPage(projects=found, next_cursor=str(last) if last < 10_003 else None)

    stand_in.answers[ListProjects] = page
    everything = (await tool.get(PROJECTS)).json()
    assert [one["id"] for one in everything["projects"]] == [f"p{n}" for n in range(10_000)]
    assert everything["nextCursor"] == "10000"
    part = (await tool.get(PROJECTS, params={"cursor": "9999"})).json()
    assert (len(part["projects"]), part["nextCursor"]) == (4, None)


# --- Who calls ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [HEADERS, {"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}]
)
async def test_a_key_counts_in_either_header_and_goes_on_as_who_it_stands_for(
    anybody: httpx2.AsyncClient, stand_in: StandIn, headers: dict[str, str]
) -> None:
    for endpoint in OF_PROJECTS:
        assert (await call(anybody, endpoint, headers=headers)).status_code == endpoint[3]
    sent = [command for command in stand_in.heard if hasattr(command, "actor")]
    assert len(sent) == len(OF_PROJECTS)
    assert {command.actor for command in sent} == {DEPLOYER}


async def test_a_superusers_token_works_too(anybody: httpx2.AsyncClient, stand_in: StandIn) -> None:
    stand_in.know(token_hash("a-superusers"), SUPERUSER)
    answer = await anybody.get(PROJECT, headers={"Authorization": "Bearer a-superusers"})
    assert answer.status_code == 200
    assert stand_in.heard_of(GetProject)[0].actor == SUPERUSER


@pytest.mark.parametrize("endpoint", EVERY, ids=every)
async def test_without_a_credential_it_is_401(
    gateway: Gateway, stand_in: StandIn, endpoint: tuple[str, str, object, int]
) -> None:
    """A certificate is none here; and nobody is asked."""
    leaf: Leaf = stand_in.authority.client("admin")
    stand_in.know(leaf, ADMIN)
    async with client(gateway, stand_in.authority, leaf) as admin:
        answer = await call(admin, endpoint, headers={"Authorization": "Basic YTpi"})
    assert refusal(answer) == (401, "Not authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not [c for c in stand_in.heard if isinstance(c, (*ANSWERS, ResolveCredentials))]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "made-up"},
        {"X-API-Key": ""},
        {"Authorization": "Bearer made-up"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {KEY}", **HEADERS},
        [("X-API-Key", KEY), ("X-API-Key", KEY)],
    ],
)
async def test_a_credential_that_is_nobodys_is_401(
    anybody: httpx2.AsyncClient,
    headers: Any,  # noqa: ANN401 - as the client takes them
) -> None:
    for endpoint in OF_PROJECTS:
        answer = await call(anybody, endpoint, headers=headers)
        assert refusal(answer) == (401, "Invalid or expired credential")


@pytest.mark.parametrize("endpoint", EVERY, ids=every)
async def test_who_may_not_is_403(
    tool: httpx2.AsyncClient, stand_in: StandIn, endpoint: tuple[str, str, object, int]
) -> None:
    refused = CertwireError(ErrorCode.FORBIDDEN, "Not enough permissions")
    stand_in.says(dict.fromkeys(ANSWERS, refused))
    assert refusal(await call(tool, endpoint)) == (403, "Not enough permissions")


# --- Orders -------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask often."""
    monkeypatch.setattr(orders, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(orders, "LONGEST_PAUSE_SECONDS", 0.02)


def questions(*answers: Order | CertwireError) -> Any:  # noqa: ANN401 - a handler of the stand-in
    """Return what gives one answer after another, the last one for ever."""
    left = list(answers)

    async def answer(_asked: GetOrder) -> Message:
        given = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(given, CertwireError):
            raise given
        return given

    return answer


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [("obtain", OBTAIN, ObtainCertificate), ("renew", None, RenewPublicCertificate)],
)
async def test_the_answer_waits_for_the_order(
    tool: httpx2.AsyncClient, stand_in: StandIn, path: str, body: object, kind: type[Any]
) -> None:
    """Whatever becomes of the service meanwhile: its replicas come and go."""
    stand_in.answers[kind] = ORDER
    stand_in.answers[GetOrder] = questions(
        ORDER,
        CertwireError(ErrorCode.UNAVAILABLE),
        CertwireError(ErrorCode.OUTCOME_UNKNOWN),
        CertwireError(ErrorCode.OVERLOADED),
        ORDER,
        ended(),
    )
    answer = await tool.post(f"{CERTIFICATE}/{path}", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["certificate"]["domain"] == DOMAIN
    asked = stand_in.heard_of(GetOrder)
    assert len(asked) == 6
    assert {(command.order_id, command.actor) for command in asked} == {(ORDER.id, DEPLOYER)}
    assert len(stand_in.heard_of(kind)) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", ["obtain", "renew"])
@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (CertwireError(ErrorCode.ORDER_FAILED, REASON), (400, REASON)),
        (
            CertwireError(ErrorCode.CA_UNAVAILABLE, "The CA limits us", retry_after_seconds=9),
            (503, "The CA limits us"),
        ),
        (CertwireError(ErrorCode.INTERNAL, SECRET), (500, "Internal server error")),
    ],
)
async def test_what_an_order_failed_for_is_the_answer(
    tool: httpx2.AsyncClient,
    stand_in: StandIn,
    path: str,
    error: CertwireError,
    answered: tuple[int, str],
) -> None:
    stand_in.says({ObtainCertificate: ORDER, RenewPublicCertificate: ORDER})
    retry_after = error.retry_after_seconds
    stand_in.answers[GetOrder] = failed(error.code, error.detail, retry_after_seconds=retry_after)
    answer = await tool.post(f"{CERTIFICATE}/{path}", json=OBTAIN)
    assert refusal(answer) == answered
    assert answer.headers.get("retry-after") == (str(retry_after) if retry_after else None)


@asynccontextmanager
async def hasty(
    nats_home: NatsHome, stand_in: StandIn, directory: Path, **settings: float
) -> AsyncIterator[httpx2.AsyncClient]:
    """Call a gateway that gives an order little time."""
    stand_in.says(ANSWERS)
    stand_in.know(token_hash(KEY), DEPLOYER)
    async with (
        running_gateway(gateway_settings(nats_home, directory, **settings)) as gateway,
        client(gateway, stand_in.authority) as connection,
    ):
        connection.headers.update(HEADERS)
        yield connection


@pytest.mark.usefixtures("quick", "services")
@pytest.mark.parametrize("path", ["obtain", "renew"])
async def test_an_order_that_takes_too_long_is_504_and_goes_on(
    nats_home: NatsHome, stand_in: StandIn, tmp_path: Path, path: str
) -> None:
    async with hasty(
        nats_home, stand_in, tmp_path, order_seconds=0.5, deadline_seconds=0.4
    ) as tool:
        stand_in.says({ObtainCertificate: ORDER, RenewPublicCertificate: ORDER, GetOrder: ORDER})
        began = time.monotonic()
        status, text = refusal(await tool.post(f"{CERTIFICATE}/{path}", json=OBTAIN))
        assert (status, "goes on" in text) == (504, True)
        assert 0.45 < time.monotonic() - began < 3
        delivered = ended(state=OrderState.PENDING)
        commands = (ObtainCertificate, RenewPublicCertificate, GetOrder)
        stand_in.says(dict.fromkeys(commands, delivered))
        answer = await tool.post(f"{CERTIFICATE}/{path}", json=OBTAIN)
        assert answer.status_code == 200, "there is a certificate"


@pytest.mark.usefixtures("quick", "services")
async def test_an_order_has_more_time_than_other_requests(
    nats_home: NatsHome, stand_in: StandIn, tmp_path: Path
) -> None:
    """Even where nobody answers its questions for longer than others wait."""

    async def slowly(_asked: GetOrder) -> Message:
        await asyncio.sleep(1.2)
        return ended()

    async with hasty(nats_home, stand_in, tmp_path, order_seconds=10, deadline_seconds=1) as tool:
        stand_in.says({ObtainCertificate: ORDER, GetOrder: slowly})
        assert (await tool.post(f"{CERTIFICATE}/obtain", json=OBTAIN)).status_code == 200
        (begun,) = stand_in.heard_of(ObtainCertificate)
        (asked,) = stand_in.heard_of(GetOrder)
        assert 3 < asked.call.deadline - begun.call.deadline < 5, "its beginning is no order"
        await tool.post(f"{CERTIFICATE}/revoke")
        await tool.post(f"{CERTIFICATE}/preflight", json=OBTAIN)
        for kind in (RevokePublicCertificate, CheckIssuance):
            (waits,) = stand_in.heard_of(kind)
            assert waits.call.deadline - time.time() > 8


async def test_a_dry_run_keeps_nothing(tool: httpx2.AsyncClient, stand_in: StandIn) -> None:
    body = {**OBTAIN, "dryRun": True}
    stand_in.answers[ObtainCertificate] = ended(kind=OrderKind.DRY_RUN, certificate=None)
    answer = await tool.post(f"{CERTIFICATE}/obtain", json=body)
    assert (answer.status_code, answer.json()) == (200, {"success": True, "certificate": None})
    (asked,) = stand_in.heard_of(ObtainCertificate)
    assert asked.dry_run is True


@pytest.mark.parametrize("path", ["obtain", "renew"])
async def test_a_certificate_that_was_removed_meanwhile_is_404(
    tool: httpx2.AsyncClient, stand_in: StandIn, path: str
) -> None:
    gone = ended(certificate=None)
    stand_in.says({ObtainCertificate: gone, RenewPublicCertificate: gone})
    answer = await tool.post(f"{CERTIFICATE}/{path}", json=OBTAIN)
    assert refusal(answer) == (404, "No certificate found")


@pytest.mark.usefixtures("quick")
async def test_a_repeat_belongs_to_the_key_and_its_questions_are_no_repeat(
    tool: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.says({ObtainCertificate: ORDER, GetOrder: ended()})
    await tool.post(f"{CERTIFICATE}/obtain", json=OBTAIN, headers={"Idempotency-Key": "7"})
    (begun,) = stand_in.heard_of(ObtainCertificate)
    assert begun.call.idempotency
    assert (begun.call.idempotency.scope, begun.call.idempotency.key) == (token_hash(KEY), "7")
    (asked,) = stand_in.heard_of(GetOrder)
    assert asked.call.idempotency is None


# --- What is asked for --------------------------------------------------------------------------

PROVIDERS: dict[str, dict[str, Any]] = {
    "cloudflare": {"apiToken": "t"},
    "aws": {"accessKeyId": "AKIA", "secretAccessKey": "s", "region": "us-east-1"},
    "digitalocean": {"apiToken": "t"},
    "godaddy": {"apiKey": "k", "apiSecret": "s"},
    "google": {
        "projectId": "my-project",
        "credentials": {
            "type": "service_account",
            "client_email": "a@b.iam.gserviceaccount.com",
            "private_key": PRIVATE_KEY,
            "private_key_id": "1",
            "token_uri": "https://attacker.example/token",
        },
    },
}


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_each_provider_takes_its_own_credentials(
    tool: httpx2.AsyncClient, stand_in: StandIn, provider: str
) -> None:
    body = with_dns(provider, **PROVIDERS[provider])
    assert (await tool.post(f"{CERTIFICATE}/obtain", json=body)).status_code == 200
    (asked,) = stand_in.heard_of(ObtainCertificate)
    dns = asked.issuance.dns
    assert dns
    assert dns.provider == provider
    sent = json.loads(json.dumps(PROVIDERS[provider]))
    for unread in ("type", "token_uri"):
        sent.get("credentials", {}).pop(unread, None)
    assert dns.credentials == sent


async def test_what_is_left_out_is_as_the_specification_has_it(
    tool: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    body = {"email": "Admin@Example.COM", "challengeType": "http-01"}
    assert (await tool.post(f"{CERTIFICATE}/obtain", json=body)).status_code == 200
    (asked,) = stand_in.heard_of(ObtainCertificate)
    assert asked.issuance.model_dump() == {
        "email": "Admin@example.com",
        "challenge_type": "http-01",
        "dns": None,
        "key_type": "rsa",
        "key_size": 2048,
        "auto_renew": True,
        "staging": False,
    }
    assert asked.dry_run is False


async def test_what_is_asked_for_goes_on(tool: httpx2.AsyncClient, stand_in: StandIn) -> None:
    wishes = {"keyType": "ec", "keySize": 4096, "autoRenew": False, "staging": True}
    await tool.post(f"{CERTIFICATE}/obtain", json={**OBTAIN, **wishes})
    (asked,) = stand_in.heard_of(ObtainCertificate)
    issuance = asked.issuance
    assert (issuance.key_type, issuance.key_size) == ("ec", 4096)
    assert (issuance.auto_renew, issuance.staging) == (False, True)


@pytest.mark.parametrize("domain", [DOMAIN, "*.example.com", "xn--bcher-kva.example"])
async def test_a_domain_goes_on(tool: httpx2.AsyncClient, stand_in: StandIn, domain: str) -> None:
    assert (await tool.post(f"{PROJECT}/domain", json={"domain": domain})).status_code == 200
    assert stand_in.heard_of(SetDomain)[0].domain == domain


# --- Path and body ------------------------------------------------------------------------------


def cloudflare(**credentials: object) -> dict[str, Any]:
    return with_dns("cloudflare", **credentials)


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        (f"{PROJECTS}/create", {"id": "Shop", "name": "Shop"}, "id"),
        (f"{PROJECTS}/create", {"id": "-", "name": "Shop"}, "id"),
        (f"{PROJECTS}/create", {"id": "a" * 65, "name": "Shop"}, "id"),
        (f"{PROJECTS}/create", {"id": 7, "name": "Shop"}, "id"),
        (f"{PROJECTS}/create", {"name": "Shop"}, "id"),
        (f"{PROJECTS}/create", {"id": "shop"}, "name"),
        (f"{PROJECTS}/create", {"id": "shop", "name": ""}, "name"),
        (f"{PROJECTS}/create", {"id": "shop", "name": "a\u0000"}, "name"),
        (f"{PROJECTS}/create", {"id": "shop", "name": "x" * 256}, "name"),
        (f"{PROJECTS}/create", {"id": "shop", "name": "n", "description": "\u0000"}, "description"),
        (
            f"{PROJECTS}/create",
            {"id": "shop", "name": "n", "description": "x" * 1001},
            "description",
        ),
        (f"{PROJECT}/domain", {}, "domain"),
        (f"{PROJECT}/domain", {"domain": "localhost"}, "domain"),
        (f"{PROJECT}/domain", {"domain": "a..b"}, "domain"),
        (f"{PROJECT}/domain", {"domain": "192.0.2.1"}, "domain"),
        (f"{PROJECT}/domain", {"domain": "*.*.example.com"}, "domain"),
        (f"{PROJECT}/domain", {"domain": "a.*.example.com"}, "domain"),
        (f"{PROJECT}/domain", {"domain": "https://example.com"}, "domain"),
        (f"{PROJECT}/domain", {"domain": "example.com:80"}, "domain"),
        (f"{PROJECT}/domain", {"domain": "bücher.example"}, "domain"),
        (f"{PROJECT}/domain", {"domain": "\u212aelvin.example"}, "domain"),
        (f"{PROJECT}/domain", {"domain": "example.com\n"}, "domain"),
        (f"{PROJECT}/domain", {"domain": ["example.com"]}, "domain"),
        (f"{PROJECT}/domain", {"domain": "a." * 127 + "example.com"}, "domain"),
        (f"{CERTIFICATE}/upload", {"certificate": PEM}, "privateKey"),
        (f"{CERTIFICATE}/upload", {"certificate": "", "privateKey": "k"}, "certificate"),
        (f"{CERTIFICATE}/upload", {"certificate": PEM, "private_key": "k"}, "privateKey"),
        (f"{CERTIFICATE}/validate", {"certificate": 7, "privateKey": "k"}, "certificate"),
        (
            f"{CERTIFICATE}/validate",
            {"certificate": "x" * 65_537, "privateKey": "k"},
            "certificate",
        ),
        (f"{CERTIFICATE}/validate", {"certificate": "x", "privateKey": "k" * 65_537}, "privateKey"),
        (f"{CERTIFICATE}/obtain", {}, "email"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "email": "admin"}, "email"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "email": "a@b.example?cc=c@d.example"}, "email"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "email": "a@b.example,c@d.example"}, "email"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "email": "a@b.example\r\n"}, "email"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "email": "a@bücher.example"}, "email"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "email": None}, "email"),
        (f"{CERTIFICATE}/obtain", {"email": "a@b.example"}, "challengeType"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "challengeType": "tls-alpn-01"}, "challengeType"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "keyType": "dsa"}, "keyType"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "keySize": 1024}, "keySize"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "keySize": "2048"}, "keySize"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "autoRenew": "yes"}, "autoRenew"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "staging": 1}, "staging"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "dryRun": None}, "dryRun"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "dnsProvider": "cloudflare"}, "dnsProvider"),
        (f"{CERTIFICATE}/obtain", {**OBTAIN, "challengeType": "dns-01"}, "dnsProvider"),
        (f"{CERTIFICATE}/obtain", with_dns("namecheap", apiToken="t"), "dnsProvider"),
        (f"{CERTIFICATE}/obtain", cloudflare(), "dnsCredentials.apiToken"),
        (f"{CERTIFICATE}/obtain", cloudflare(apiToken=""), "dnsCredentials.apiToken"),
        (f"{CERTIFICATE}/obtain", cloudflare(apiToken="a\r\nb"), "dnsCredentials.apiToken"),
        (f"{CERTIFICATE}/obtain", cloudflare(apiToken=["t"]), "dnsCredentials.apiToken"),
        (f"{CERTIFICATE}/obtain", cloudflare(api_token="t"), "dnsCredentials.apiToken"),
        (f"{CERTIFICATE}/obtain", cloudflare(apiToken="t", apiKey="k"), "dnsCredentials"),
        (f"{CERTIFICATE}/obtain", with_dns("aws", apiToken="t"), "dnsCredentials.accessKeyId"),
        (
            f"{CERTIFICATE}/obtain",
            with_dns("aws", accessKeyId="a", secretAccessKey="s", region="evil.example/?"),
            "dnsCredentials.region",
        ),
        (
            f"{CERTIFICATE}/obtain",
            with_dns("google", projectId="my-project", credentials="x"),
            "dnsCredentials.credentials",
        ),
        (
            f"{CERTIFICATE}/obtain",
            with_dns("google", projectId="../x", credentials=PROVIDERS["google"]["credentials"]),
            "dnsCredentials.projectId",
        ),
        (f"{CERTIFICATE}/obtain", {**cloudflare(), "dnsCredentials": "t"}, "dnsCredentials"),
        (f"{CERTIFICATE}/preflight", {**OBTAIN, "email": "admin"}, "email"),
        (KEYS, {"permissions": {"projects": "read"}}, "name"),
        (KEYS, {"name": "k"}, "permissions"),
        (KEYS, {"name": "k", "permissions": {}}, "permissions.projects"),
        (KEYS, {"name": "k", "permissions": {"projects": "all"}}, "permissions.projects"),
        (
            KEYS,
            {"name": "k", "permissions": {"projects": "read", "keys": "write"}},
            "permissions.keys",
        ),
        (KEYS, {"name": "k", "permissions": {"projects": "read", SECRET: "x"}}, "permissions"),
        (KEYS, {"name": "a\nb", "permissions": {"projects": "read"}}, "name"),
    ],
)
async def test_an_invalid_body_is_400_and_names_the_field(
    anybody: httpx2.AsyncClient, stand_in: StandIn, path: str, body: object, where: str
) -> None:
    """Before anybody is asked, even for who it is."""
    status, text = refusal(await anybody.post(path, json=body))
    assert (status, text.partition(" ")[0].rstrip(":")) in {(400, where), (400, "body")}
    assert where in text
    assert SECRET not in text
    assert not [c for c in stand_in.heard if isinstance(c, (*ANSWERS, ResolveCredentials))]


async def test_a_value_is_never_said_back(tool: httpx2.AsyncClient) -> None:
    for path, body in (
        ("obtain", {**OBTAIN, "email": SECRET}),
        ("obtain", {**OBTAIN, "challengeType": SECRET}),
        ("obtain", {**OBTAIN, "keySize": SECRET}),
        ("obtain", with_dns(SECRET, apiToken="t")),
        ("obtain", cloudflare(apiToken=f"{SECRET} {SECRET}")),
        ("obtain", cloudflare(apiToken={SECRET: SECRET})),
        ("obtain", cloudflare(**{SECRET: "t"})),
        (
            "obtain",
            with_dns("google", projectId=SECRET.upper(), credentials={"private_key": SECRET}),
        ),
        ("upload", {"certificate": SECRET, "privateKey": [SECRET]}),
    ):
        answer = await tool.post(f"{CERTIFICATE}/{path}", json=body)
        assert refusal(answer)[0] == 400
        assert SECRET not in answer.text


async def test_not_everything_that_is_wrong_is_told(tool: httpx2.AsyncClient) -> None:
    body = {"email": 1, "challengeType": 1, "autoRenew": 1, "keyType": 1, "staging": 1, "dryRun": 1}
    _, text = refusal(await tool.post(f"{CERTIFICATE}/obtain", json=body))
    assert text.count(";") == 4
    huge = {"x" * 500_000: 1}
    status, text = refusal(await tool.post(f"{CERTIFICATE}/obtain", json=cloudflare(**huge)))
    assert (status, len(text) < 500) == (400, True)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {}),
        (b"", {}),
        (b"[]", {}),
        (b"null", {}),
        (b'{"domain":"a.example","domain":"b.example"}', {}),
        (b'{"domain":"a.example"}', {"Content-Type": "text/plain"}),
        (b"[" * 10_000, {}),
        (b'{"domain":"\\ud800.example"}', {}),
        (b"\xff", {}),
    ],
)
async def test_a_body_that_is_none_is_400(
    tool: httpx2.AsyncClient, body: bytes, headers: dict[str, str]
) -> None:
    headers = {"Content-Type": "application/json", **headers}
    answer = await tool.post(f"{PROJECT}/domain", content=body, headers=headers)
    status, text = refusal(answer)
    assert (status, text.startswith("body: ")) == (400, True)


@pytest.mark.parametrize("name", ["Upper", "a_b", "a.b", "-", "a%0a", "%00", "a" * 65, "..%20"])
async def test_an_id_in_the_path_is_checked_first(
    anybody: httpx2.AsyncClient, stand_in: StandIn, name: str
) -> None:
    for method, path, body, _ in OF_PROJECTS:
        if path.startswith(PROJECT):
            answer = await anybody.request(method, path.replace("/shop", f"/{name}", 1), json=body)
            status, text = refusal(answer)
            assert (status, text.startswith("id: ")) == (400, True)
    assert not [c for c in stand_in.heard if isinstance(c, (*ANSWERS, ResolveCredentials))]


@pytest.mark.parametrize("number", ["0", "-1", "01", "1.0", "1_0", "x", str(2**63), "%D9%A1"])
async def test_the_id_of_a_key_is_a_number(anybody: httpx2.AsyncClient, number: str) -> None:
    status, text = refusal(await anybody.delete(f"{KEYS}/{number}"))
    assert (status, text.startswith("id: ")) == (400, True)


@pytest.mark.parametrize(
    ("path", "parameters", "where"),
    [
        (PROJECTS, {"limit": "0"}, "limit"),
        (PROJECTS, {"limit": "501"}, "limit"),
        (PROJECTS, {"cursor": "x" * 513}, "cursor"),
        (KEYS, {"limit": "x"}, "limit"),
        (f"{CERTIFICATE}/orders", {"limit": "101"}, "limit"),
    ],
)
async def test_a_query_is_checked(
    tool: httpx2.AsyncClient, path: str, parameters: dict[str, str], where: str
) -> None:
    status, text = refusal(await tool.get(path, params=parameters))
    assert (status, text.startswith(f"{where}: ")) == (400, True)


async def test_a_cursor_that_is_none_is_400(tool: httpx2.AsyncClient, stand_in: StandIn) -> None:
    invalid = CertwireError(
        ErrorCode.INVALID_REQUEST, "not a cursor", parameters={"field": "cursor"}
    )
    stand_in.says({ListProjects: invalid, ListApiKeys: invalid})
    for path in (PROJECTS, KEYS):
        answer = await tool.get(path, params={"cursor": "x"})
        assert refusal(answer) == (400, "cursor: not a cursor")


async def test_an_id_may_look_like_a_path_of_ours(
    tool: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    assert (await tool.get(f"{PROJECTS}/create")).status_code == 200
    assert stand_in.heard_of(GetProject)[0].project_id == "create"
    await tool.post(f"{PROJECTS}/create", json={"id": "create", "name": "n", "description": "d"})
    (made,) = stand_in.heard_of(CreateProject)
    assert (made.project_id, made.name, made.description) == ("create", "n", "d")


# --- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        ((ErrorCode.NOT_FOUND, ""), (404, "Project not found")),
        ((ErrorCode.NOT_FOUND, "No certificate found"), (404, "No certificate found")),
        (
            (ErrorCode.AGAINST_POLICY, "Project has no domain configured"),
            (400, "Project has no domain configured"),
        ),
        ((ErrorCode.ORDER_FAILED, REASON), (400, REASON)),
        (
            (ErrorCode.INVALID_CERTIFICATE, f"Certificate is not valid for domain {DOMAIN}"),
            (400, f"Certificate is not valid for domain {DOMAIN}"),
        ),
        ((ErrorCode.ALREADY_REVOKED, ""), (409, "Certificate is already revoked")),
        ((ErrorCode.CONFLICT, "Another order goes on"), (409, "Another order goes on")),
        ((ErrorCode.CA_UNAVAILABLE, "The CA is away"), (503, "The CA is away")),
        ((ErrorCode.RATE_LIMITED, ""), (429, "Rate limit exceeded")),
        ((ErrorCode.UNAVAILABLE, SECRET), (503, "Service unavailable")),
        ((ErrorCode.INTERNAL, SECRET), (500, "Internal server error")),
        (
            (ErrorCode.IDEMPOTENCY_KEY_REUSED, ""),
            (422, "Idempotency-Key was used for another request"),
        ),
    ],
)
async def test_errors_to_the_letter(
    tool: httpx2.AsyncClient,
    stand_in: StandIn,
    error: tuple[ErrorCode, str],
    answered: tuple[int, str],
) -> None:
    refused = CertwireError(*error, retry_after_seconds=7)
    stand_in.says(dict.fromkeys(ANSWERS, refused))
    for endpoint in OF_PROJECTS:
        answer = await call(tool, endpoint)
        assert refusal(answer) == answered, endpoint
        assert answer.headers["retry-after"] == "7"


async def test_a_key_that_there_is_not_is_404(tool: httpx2.AsyncClient, stand_in: StandIn) -> None:
    stand_in.answers[DeleteApiKey] = CertwireError(ErrorCode.NOT_FOUND, "API key not found")
    assert refusal(await tool.delete(f"{KEYS}/8")) == (404, "API key not found")


async def test_a_repeat_of_a_shown_secret_is_409(
    tool: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.answers[CreateApiKey] = CertwireError(ErrorCode.IDEMPOTENCY_SECRET_SHOWN)
    answer = await tool.post(KEYS, json=OF_KEYS[0][2], headers={"Idempotency-Key": "7"})
    status, text = refusal(answer)
    assert (status, "took effect" in text) == (409, True)
    (sent,) = stand_in.heard_of(CreateApiKey)
    assert sent.call.idempotency
    assert sent.call.idempotency.scope == hashlib.sha256(KEY.encode()).hexdigest()


async def test_an_idempotency_key_that_cannot_be_kept_is_400(tool: httpx2.AsyncClient) -> None:
    answer = await tool.post(f"{CERTIFICATE}/renew", headers={"Idempotency-Key": "a b"})
    status, text = refusal(answer)
    assert (status, text.startswith("Idempotency-Key: ")) == (400, True)


async def test_an_unknown_path_and_method_in_the_dialects_shape(tool: httpx2.AsyncClient) -> None:
    for path in (f"{PROJECTS}/", f"{PROJECT}/nothing", f"{CERTIFICATE}/a/b", f"{KEYS}/7/x"):
        assert refusal(await tool.get(path)) == (404, "Not Found")
    for path, allowed in (
        (PROJECTS, "GET"),
        (CERTIFICATE, "DELETE, GET"),
        (f"{CERTIFICATE}/obtain", "POST"),
        (KEYS, "GET, POST"),
    ):
        answer = await tool.put(path)
        assert refusal(answer) == (405, "Method Not Allowed")
        assert answer.headers["allow"] == allowed


async def test_a_body_that_is_too_large_is_413(tool: httpx2.AsyncClient) -> None:
    body = {"certificate": "x" * 2**20, "privateKey": "k"}
    answer = await tool.post(f"{CERTIFICATE}/upload", json=body)
    assert refusal(answer) == (413, "Request Entity Too Large")


async def test_without_the_service_it_is_503(
    nats_home: NatsHome, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.says(ANSWERS)
    stand_in.know(token_hash(KEY), DEPLOYER)
    async with (
        standing_in(nats_home, stand_in, (Service.ISSUER, Service.REGISTRY)),
        running_gateway(gateway_settings(nats_home, tmp_path)) as gateway,
        client(gateway, stand_in.authority) as tool,
    ):
        for endpoint in OF_PROJECTS:
            answer = await call(tool, endpoint, headers=HEADERS)
            assert refusal(answer) == (503, "Service unavailable")
        assert (await tool.get(KEYS, headers=HEADERS)).status_code == 200


# --- The documentation ---------------------------------------------------------------------------


async def test_the_documentation_knows_every_endpoint(tool: httpx2.AsyncClient) -> None:
    described = (await tool.get("/openapi.json")).json()
    documented = {
        (method.upper(), path): operation
        for path, operations in described["paths"].items()
        if path.startswith((PROJECTS, KEYS))
        for method, operation in operations.items()
    }
    assert len(documented) == len(EVERY)
    for (method, path), operation in documented.items():
        assert operation["security"] == [{"api_key": []}, {"bearer": []}], path
        assert {"400", "401", "403", "500", "503", "504"} <= set(operation["responses"]), path
        assert "422" not in operation["responses"]
        assert operation["description"], (method, path)
    scheme = described["components"]["securitySchemes"]["api_key"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-API-Key")
