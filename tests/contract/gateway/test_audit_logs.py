"""`GET /api/v1/audit-logs/` of the fastpki dialect."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from contracts.audit import Actor, AuditObject, Outcome
from contracts.audit_log import KeptRecord, KeptRecords, ListAuditRecords
from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Principal, PrincipalKind, Role
from services.gateway.app import Gateway
from shared.secrets import token_hash
from tests.support.stand_in import StandIn, client

PATH = "/api/v1/audit-logs/"
ADMIN = Principal(kind=PrincipalKind.USER, id="7", name="alice", role=Role.ADMIN, organization_id=3)
NOON = datetime(2026, 4, 19, 12, 0, 0, 120, tzinfo=UTC)


def record(**changes: Any) -> KeptRecord:  # noqa: ANN401 - any field
    made = KeptRecord(
        position=12,
        time=NOON,
        action="ca_create",
        actor=Actor.of(ADMIN),
        object=AuditObject(type="ca", id="42", name="CN=Acme", organization_id=3),
        organization_id=3,
        outcome=Outcome.SUCCESS,
        request_id="r",
        detail={"key_size": 2048},
    )
    return made.model_copy(update=changes)


@pytest.fixture
async def alice(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    stand_in.know(token_hash("alice"), ADMIN)
    stand_in.answers[ListAuditRecords] = KeptRecords(records=(record(),))
    async with client(gateway, stand_in.authority) as connection:
        connection.headers["Authorization"] = "Bearer alice"
        yield connection


@pytest.mark.parametrize("path", [PATH, PATH.rstrip("/")])
async def test_records_have_the_form_that_clients_know(
    alice: httpx2.AsyncClient, stand_in: StandIn, path: str
) -> None:
    answer = await alice.get(path)
    assert answer.status_code == 200
    (row,) = answer.json()
    detail = json.loads(row.pop("detail"))
    assert row == {
        "id": 12,
        "created_at": "2026-04-19T12:00:00.000120Z",
        "action": "ca_create",
        "user_id": 7,
        "username": "alice",
        "organization_id": 3,
        "resource_type": "ca",
        "resource_id": 42,
    }
    assert detail == {
        "outcome": "success",
        "object": "CN=Acme",
        "request_id": "r",
        "detail": {"key_size": 2048},
    }
    (sent,) = stand_in.heard_of(ListAuditRecords)
    assert (sent.actor, sent.skip, sent.limit) == (ADMIN, 0, 100)


async def test_who_is_no_user_stands_in_the_detail(
    alice: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    admin = Actor(kind="admin", id="admin", name="admin", fingerprint="f" * 64)
    agent = AuditObject(type="agent", id="007", name="007")
    many = "9" * 200
    stand_in.answers[ListAuditRecords] = KeptRecords(
        records=(
            record(actor=admin, object=agent, detail=None),
            record(object=AuditObject(type="user", id=many, name=""), detail={}),
        )
    )
    first, second = (await alice.get(PATH)).json()
    assert (first["user_id"], first["username"], first["resource_id"]) == (None, None, "007")
    detail = json.loads(first["detail"])
    assert detail["actor"] == {"kind": "admin", "id": "admin", "name": "admin"}
    assert detail["detail"] == "too long for a list"
    assert second["resource_id"] == many
    assert "detail" not in json.loads(second["detail"])


async def test_every_condition_reaches_the_service(
    alice: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    conditions = {
        "action": "ca_create",
        "user_id": "7",
        "resource_type": "ca",
        "resource_id": "42",
        "since": "2026-04-19T12:00:00",
        "until": "2026-04-19T14:00:00+02:00",
        "skip": "5",
        "limit": "1000",
        "unknown": "is not looked at",
    }
    assert (await alice.get(PATH, params=conditions)).status_code == 200
    (sent,) = stand_in.heard_of(ListAuditRecords)
    assert (sent.action, sent.user_id, sent.object_type, sent.object_id) == (
        "ca_create",
        7,
        "ca",
        "42",
    )
    assert sent.since == sent.until == NOON.replace(microsecond=0)
    assert (sent.skip, sent.limit) == (5, 1000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "many"),
        ("skip", "-1"),
        ("skip", str(2**63)),
        ("user_id", str(2**63)),
        ("user_id", "9" * 10_000),
        ("action", "a\x00b"),
        ("action", "a" * 10_000),
        ("resource_type", "\x00"),
        ("resource_id", "x" * 1025),
        ("since", "yesterday"),
        ("since", "0001-01-01T00:00:00+14:00"),
        ("until", "9999-12-31T23:59:59-14:00"),
        ("until", "1e308"),
        ("until", "10000-01-01T00:00:00Z"),
    ],
)
async def test_what_nothing_can_be_looked_up_by_is_422(
    alice: httpx2.AsyncClient, stand_in: StandIn, name: str, value: str
) -> None:
    answer = await alice.get(PATH, params={name: value})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["query", name]
    assert not stand_in.heard_of(ListAuditRecords)


async def test_who_may_not_is_refused(alice: httpx2.AsyncClient, stand_in: StandIn) -> None:
    refusal = CertwireError(ErrorCode.FORBIDDEN, "Insufficient permissions")
    stand_in.answers[ListAuditRecords] = refusal
    answer = await alice.get(PATH)
    assert (answer.status_code, answer.json()) == (403, {"detail": "Insufficient permissions"})
    for headers in ({"Authorization": "Bearer nobody"}, {"Authorization": ""}):
        answer = await alice.get(PATH, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
