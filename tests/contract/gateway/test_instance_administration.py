"""What administrators of instances call, and who they have to be."""

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import (
    BootstrapToken,
    CreateBootstrapToken,
    CreatedInstance,
    CreateInstance,
    GetInstance,
    InstancePage,
    InventoryPage,
    InventoryRow,
    ListInstanceCertificates,
    ListInstances,
    PutSecrets,
    RevokedCertificate,
    RevokeInstanceCertificate,
    SetInstanceStatus,
)
from contracts.messages import Done
from contracts.principal import Principal, PrincipalKind
from contracts.registry import ResolveCredentials
from services.gateway.app import Gateway
from tests.contract.gateway.messages import (
    ADMIN,
    INSTANCE,
    INSTANCES,
    NEW_INSTANCE,
    NOON,
    ONE,
    ONE_SHOWN,
    SUPERUSER,
    WG_KEY,
)
from tests.support.authority import Leaf
from tests.support.stand_in import StandIn, client

PATH = f"{INSTANCES}/{INSTANCE}"
TOKEN = "a-superusers-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
EVERY: tuple[tuple[str, str, object], ...] = (
    ("POST", INSTANCES, NEW_INSTANCE),
    ("GET", INSTANCES, None),
    ("GET", PATH, None),
    ("PATCH", PATH, {"status": "running"}),
    ("PUT", f"{PATH}/secrets", {"agent_secrets": {}}),
    ("POST", f"{PATH}/bootstrap-token", None),
    ("GET", f"{PATH}/certificates", None),
    ("POST", f"{PATH}/cert/revoke", {}),
)


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@pytest.fixture
def leaf(stand_in: StandIn) -> Leaf:
    leaf = stand_in.authority.client("admin")
    stand_in.know(leaf, ADMIN)
    stand_in.know(token_hash(TOKEN), SUPERUSER)
    return leaf


@pytest.fixture
async def admin(
    gateway: Gateway, stand_in: StandIn, leaf: Leaf
) -> AsyncIterator[httpx2.AsyncClient]:
    """Call with the administrator's certificate."""
    token = BootstrapToken(token="once", expires_at=NOON)
    row = InventoryRow(
        instance_id=UUID(INSTANCE),
        serial_hex="1f",
        fingerprint="f" * 64,
        issued_at=NOON,
        expires_at=NOON,
        revoked_at=None,
        revocation_reason=None,
    )
    stand_in.says(
        {
            CreateInstance: CreatedInstance(instance=ONE, bootstrap=token),
            ListInstances: InstancePage(instances=(ONE,), next_cursor="more"),
            GetInstance: ONE,
            SetInstanceStatus: ONE,
            PutSecrets: Done(),
            CreateBootstrapToken: token,
            ListInstanceCertificates: InventoryPage(certificates=(row,), next_cursor=None),
            RevokeInstanceCertificate: RevokedCertificate(serial_hex="1f", revoked_at=NOON),
        }
    )
    async with client(gateway, stand_in.authority, leaf) as connection:
        yield connection


@pytest.fixture
async def anybody(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    """Call without a certificate."""
    async with client(gateway, stand_in.authority) as connection:
        yield connection


async def test_creates_an_instance(admin: httpx2.AsyncClient, stand_in: StandIn) -> None:
    answer = await admin.post(INSTANCES, json={**NEW_INSTANCE, "agent_secrets": {"key": "v"}})
    assert answer.status_code == 201
    assert answer.json() == {
        **ONE_SHOWN,
        "bootstrap_token": "once",
        "bootstrap_expires_at": "2026-04-19T12:00:00Z",
    }
    (sent,) = stand_in.heard_of(CreateInstance)
    assert sent.principal == ADMIN
    assert (sent.name, sent.vpn_ip, sent.wg_public_key) == ("one", "10.8.0.2", WG_KEY)
    assert sent.agent_secrets == {"key": "v"}


async def test_lists_instances_page_by_page(admin: httpx2.AsyncClient, stand_in: StandIn) -> None:
    answer = await admin.get(INSTANCES, params={"limit": 7, "cursor": "here"})
    assert (answer.status_code, answer.json()) == (
        200,
        {"instances": [ONE_SHOWN], "next_cursor": "more"},
    )
    (sent,) = stand_in.heard_of(ListInstances)
    assert (sent.limit, sent.cursor) == (7, "here")


async def test_shows_an_instance_without_secrets(admin: httpx2.AsyncClient) -> None:
    answer = await admin.get(PATH)
    assert (answer.status_code, answer.json()) == (200, ONE_SHOWN)


async def test_changes_the_status(admin: httpx2.AsyncClient, stand_in: StandIn) -> None:
    answer = await admin.patch(PATH, json={"status": "terminated"})
    assert (answer.status_code, answer.json()) == (200, ONE_SHOWN)
    (sent,) = stand_in.heard_of(SetInstanceStatus)
    assert sent.status == "terminated"


async def test_replaces_the_secrets(admin: httpx2.AsyncClient, stand_in: StandIn) -> None:
    answer = await admin.put(f"{PATH}/secrets", json={"agent_secrets": {"key": [1, None]}})
    assert (answer.status_code, answer.content) == (204, b"")
    (sent,) = stand_in.heard_of(PutSecrets)
    assert sent.agent_secrets == {"key": [1, None]}


async def test_makes_a_bootstrap_token(admin: httpx2.AsyncClient) -> None:
    answer = await admin.post(f"{PATH}/bootstrap-token")
    assert (answer.status_code, answer.json()) == (
        201,
        {"bootstrap_token": "once", "bootstrap_expires_at": "2026-04-19T12:00:00Z"},
    )


async def test_lists_certificates(admin: httpx2.AsyncClient) -> None:
    answer = await admin.get(f"{PATH}/certificates")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "certificates": [
                {
                    "instance_id": INSTANCE,
                    "serial": "1f",
                    "fingerprint": "f" * 64,
                    "issued_at": "2026-04-19T12:00:00Z",
                    "expires_at": "2026-04-19T12:00:00Z",
                    "revoked_at": None,
                    "revocation_reason": None,
                }
            ],
            "next_cursor": None,
        },
    )


@pytest.mark.parametrize(
    ("body", "reason"), [(None, None), ({}, None), ({"reason": "lost"}, "lost")]
)
async def test_revokes_the_certificate(
    admin: httpx2.AsyncClient, stand_in: StandIn, body: object, reason: str | None
) -> None:
    content = None if body is None else json.dumps(body)
    headers = {"Content-Type": "application/json"}
    answer = await admin.post(f"{PATH}/cert/revoke", content=content, headers=headers)
    assert (answer.status_code, answer.json()) == (
        200,
        {"serial": "1f", "revoked_at": "2026-04-19T12:00:00Z"},
    )
    (sent,) = stand_in.heard_of(RevokeInstanceCertificate)
    assert sent.reason == reason


@pytest.mark.parametrize(("method", "path", "body"), EVERY)
@pytest.mark.usefixtures("admin")
async def test_a_superusers_token_does_it_too(
    anybody: httpx2.AsyncClient, method: str, path: str, body: object
) -> None:
    answer = await anybody.request(method, path, json=body, headers=BEARER)
    assert answer.status_code < 300


@pytest.mark.parametrize(("method", "path", "body"), EVERY)
async def test_no_credential_is_401_and_nobodys_certificate_403(
    gateway: Gateway,
    anybody: httpx2.AsyncClient,
    stand_in: StandIn,
    method: str,
    path: str,
    body: object,
) -> None:
    answer = await anybody.request(method, path, json=body)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Not authenticated"})
    assert answer.headers["www-authenticate"] == "Bearer"
    answer = await anybody.request(method, path, json=body, headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401
    async with client(gateway, stand_in.authority, stand_in.authority.client()) as nobody:
        answer = await nobody.request(method, path, json=body)
    assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


@pytest.mark.parametrize(("method", "path", "body"), EVERY)
async def test_what_the_service_forbids_is_403(
    admin: httpx2.AsyncClient, stand_in: StandIn, method: str, path: str, body: object
) -> None:
    for kind in stand_in.answers:
        stand_in.answers[kind] = CertwireError(ErrorCode.FORBIDDEN, "only an administrator")
    answer = await admin.request(method, path, json=body)
    assert (answer.status_code, answer.json()) == (403, {"detail": "only an administrator"})


async def test_the_token_acts_where_a_certificate_comes_too(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    """And where it is nobody's, the certificate does not step in."""
    await admin.get(PATH, headers=BEARER)
    (sent,) = stand_in.heard_of(GetInstance)
    assert sent.principal == SUPERUSER
    for header in ("Bearer x", "Bearer", "bearer a b", "Bearer \u00e9"):
        answer = await admin.get(PATH, headers={b"Authorization": header.encode()})
        assert answer.status_code == 401, header
    twice = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")]
    assert (await admin.get(PATH, headers=twice)).status_code == 401
    assert len(stand_in.heard_of(GetInstance)) == 1


async def test_a_header_of_another_kind_is_not_looked_at(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    headers = {"Authorization": "Basic eA==", "X-API-Key": "key", "X-Forwarded-For": "10.1.1.1"}
    assert (await admin.get(PATH, headers=headers)).status_code == 200
    (sent,) = stand_in.heard_of(GetInstance)
    assert sent.principal == ADMIN
    assert sent.call.source_address == "127.0.0.1"


async def test_a_revocation_counts_from_the_next_request_on(
    admin: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    """Over the same connection: nothing about the caller is remembered."""
    assert (await admin.get(PATH)).status_code == 200
    del stand_in.principals[leaf.sha256]
    assert (await admin.get(PATH)).status_code == 403


async def test_the_registry_hears_from_where_and_for_which_request(
    admin: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    answer = await admin.get(PATH)
    (asked,) = stand_in.heard_of(ResolveCredentials)
    (question,) = asked.questions
    assert question.credential.sha256 == leaf.sha256
    assert question.request_id == answer.headers["x-request-id"]
    assert question.source_address == "127.0.0.1"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "n" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": 1}, "name"),
        ({"wg_public_key": WG_KEY[:-1]}, "wg_public_key"),
        ({"wg_public_key": "A" * 43 + "="}, "wg_public_key"),
        ({"wg_public_key": "A" * 42 + "B="}, "wg_public_key"),
        ({"wg_public_key": WG_KEY + "\n"}, "wg_public_key"),
        ({"wg_public_key": "é" * 44}, "wg_public_key"),
        ({"wg_public_key": "AAAA"}, "wg_public_key"),
        ({"vpn_ip": "10.0.0.256"}, "vpn_ip"),
        ({"vpn_ip": "192.168.0.1"}, "vpn_ip"),
        ({"agent_secrets": []}, "agent_secrets"),
        ({"agent_secrets": None}, "agent_secrets"),
        ({"agent_secrets": {"k": "v" * 65_536}}, "agent_secrets"),
    ],
)
async def test_an_invalid_instance_says_where(
    anybody: httpx2.AsyncClient, change: dict[str, Any], field: str
) -> None:
    answer = await anybody.post(INSTANCES, json={**NEW_INSTANCE, **change})
    assert answer.status_code == 422
    assert [issue["loc"] for issue in answer.json()["detail"]] == [["body", field]]
    assert "v" * 100 not in answer.text


async def test_a_name_of_100_printable_characters_is_fine(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    name = "Überläufer 1 " + "x" * 87
    assert (await admin.post(INSTANCES, json={**NEW_INSTANCE, "name": name})).status_code == 201
    assert stand_in.heard_of(CreateInstance)[0].name == name


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{INSTANCES}?limit=0", None),
        ("GET", f"{INSTANCES}?limit=501", None),
        ("GET", f"{INSTANCES}?limit=x", None),
        ("GET", f"{INSTANCES}?limit=٣", None),
        ("GET", f"{PATH}/certificates?limit=-1", None),
        ("GET", f"{INSTANCES}?cursor={'c' * 600}", None),
        ("GET", f"{INSTANCES}/x", None),
        ("PATCH", PATH, {"status": "dead"}),
        ("PATCH", PATH, {}),
        ("PUT", f"{PATH}/secrets", {}),
        ("PUT", f"{PATH}/secrets", {"agent_secrets": "text"}),
        ("POST", f"{PATH}/cert/revoke", {"reason": "a\u0000b"}),
        ("POST", f"{PATH}/cert/revoke", {"reason": "r" * 300}),
        ("POST", f"{INSTANCES}/x/bootstrap-token", None),
    ],
)
async def test_the_schema_comes_before_the_credential(
    anybody: httpx2.AsyncClient, stand_in: StandIn, method: str, path: str, body: object
) -> None:
    answer = await anybody.request(method, path, json=body)
    assert answer.status_code == 422
    assert not stand_in.heard_of(ResolveCredentials)


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (CertwireError(ErrorCode.NOT_FOUND), 404, "Instance not found"),
        (CertwireError(ErrorCode.INVALID_TRANSITION, "not from here"), 409, "not from here"),
        (CertwireError(ErrorCode.ALREADY_EXISTS, "it is there"), 409, "it is there"),
    ],
)
async def test_refusals_explain_themselves_to_administrators(
    admin: httpx2.AsyncClient,
    stand_in: StandIn,
    error: CertwireError,
    status: int,
    detail: str,
) -> None:
    stand_in.answers[SetInstanceStatus] = error
    answer = await admin.patch(PATH, json={"status": "running"})
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


async def test_what_only_the_service_can_refuse_is_a_422_in_the_same_shape(
    admin: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.answers[ListInstances] = CertwireError(ErrorCode.INVALID_REQUEST, "no such cursor")
    answer = await admin.get(INSTANCES, params={"cursor": "x"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["msg"] == "no such cursor"


async def test_an_idempotency_key_belongs_to_the_credential(
    admin: httpx2.AsyncClient, stand_in: StandIn, leaf: Leaf
) -> None:
    headers = {"Idempotency-Key": "k"}
    await admin.post(INSTANCES, json=NEW_INSTANCE, headers=headers)
    await admin.post(INSTANCES, json=NEW_INSTANCE, headers={**headers, **BEARER})
    await admin.get(PATH, headers=headers)
    mine, theirs = (command.call.idempotency for command in stand_in.heard_of(CreateInstance))
    assert mine
    assert theirs
    assert (mine.scope, theirs.scope) == (leaf.sha256, token_hash(TOKEN))
    assert mine.request == theirs.request
    assert stand_in.heard_of(GetInstance)[0].call.idempotency is None


@pytest.mark.usefixtures("admin")
async def test_an_agent_is_told_apart_from_nobody(gateway: Gateway, stand_in: StandIn) -> None:
    """Whom the registry knows travels on, for the service to decide."""
    leaf = stand_in.authority.client()
    agent = Principal(kind=PrincipalKind.AGENT, id="7", name="an-agent", capabilities=("x",))
    stand_in.know(leaf, agent)
    async with client(gateway, stand_in.authority, leaf) as connection:
        await connection.get(PATH)
    assert stand_in.heard_of(GetInstance)[0].principal == agent
