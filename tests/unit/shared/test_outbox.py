"""Outbox rows: one audit record, and its event where there is one."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import JsonValue

from contracts.audit import Actor, AuditObject, Outcome, canonical_json
from contracts.events import CaCreated
from contracts.principal import Principal, PrincipalKind
from contracts.subjects import Service
from shared.database import Database
from shared.outbox import Backlog, OutboxRow, append, columns, outbox_row
from shared.settings import Settings
from tests.support.servers import Place

ACTOR = Actor(kind="user", id="7", name="Zoë 🌳")
OBJECT = AuditObject(type="ca", id="root", name="Root \n CA")


def row(actor: Principal | Actor = ACTOR, **others: Any) -> OutboxRow:  # noqa: ANN401 - handed on
    return outbox_row(Service.ISSUER, "request", actor, "ca_create", OBJECT, **others)


def created(ca: str = "root") -> CaCreated:
    return CaCreated(
        ca=ca, fingerprint="0" * 64, subject="CN=x", not_after=datetime(2036, 1, 1, tzinfo=UTC)
    )


def test_the_entry_is_canonical_json() -> None:
    entry = row(detail={"z": 1, "a": ["ü", None, True]}).entry
    assert canonical_json(json.loads(entry)).decode() == entry
    assert list(json.loads(entry)) == sorted(json.loads(entry))


def test_the_time_has_microseconds_even_where_they_are_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.outbox.utc_now", lambda: datetime(2026, 11, 21, tzinfo=UTC))
    assert json.loads(row().entry)["time"] == "2026-11-21T00:00:00.000000Z"


def test_a_principal_acts_without_its_rights() -> None:
    principal = Principal(kind=PrincipalKind.AGENT, id="a", name="b", capabilities=("x",))
    assert json.loads(row(principal).entry)["actor"] == Actor.of(principal).model_dump()


def test_outcome_and_request_are_on_record() -> None:
    entry = json.loads(row(outcome=Outcome.REFUSED).entry)
    assert (entry["outcome"], entry["request_id"]) == ("refused", "request")


def test_without_an_event_there_is_only_the_record() -> None:
    made = row()
    assert made == OutboxRow(made.entry, None, None, None)


def test_event_and_record_share_id_and_time() -> None:
    made = row(event=created())
    entry, headers = json.loads(made.entry), json.loads(made.event_headers or "")
    assert headers["ce-id"] == entry["id"]
    assert headers["ce-time"] == entry["time"]
    assert made.event_subject == "certwire.events.ca.created"
    assert "ce-traceparent" not in headers
    traced = json.loads(row(event=created(), traceparent="t").event_headers or "")
    assert traced["ce-traceparent"] == "t"


@pytest.mark.parametrize(
    ("subject", "header"),
    [
        ("agent-1", "agent-1"),
        ("a b", "a%20b"),
        ("100%", "100%25"),
        ('say "x"', "say%20%22x%22"),
        ("Zoë", "Zo%C3%AB"),
        ("x\r\nce-type: forged", "x%0D%0Ace-type:%20forged"),
        ("a/b?c=d&e#f@g[h]", "a/b?c=d&e#f@g[h]"),
    ],
)
def test_a_header_holds_printable_ascii_only(subject: str, header: str) -> None:
    headers = json.loads(row(event=created(subject)).event_headers or "")
    assert headers["ce-subject"] == header


@pytest.mark.parametrize(
    "detail", [{"ratio": 0.5}, {"big": 2**53}, {"é": 1}, {"name": "\ud800"}, {"x": object()}]
)
def test_a_detail_that_cannot_be_hashed_is_a_mistake_of_ours(detail: dict[str, JsonValue]) -> None:
    with pytest.raises(ValueError, match=r"canonical|surrogates|valid"):
        row(detail=detail)


def test_an_action_is_a_part_of_a_subject() -> None:
    for action in ("Ca Create", "ca.create", "", "ca\r\nPUB x"):
        with pytest.raises(ValueError, match="action"):
            outbox_row(Service.ISSUER, "r", ACTOR, action, OBJECT)


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    database = await Database.open(place.settings(Settings), "issuer")
    yield database
    await database.close()


async def test_rows_arrive_as_they_were_made(database: Database) -> None:
    rows = [row(), row(event=created()), row(detail={"text": "a\u0000b"})]
    async with database.transaction() as connection:
        await append(connection, rows)
        found = await connection.fetch("SELECT * FROM outbox ORDER BY position")
    texts = ("entry", "event_headers", "event_subject", "event")
    assert [OutboxRow(*(one[text] for text in texts)) for one in found] == rows
    assert [one["sequence"] for one in found] == [None] * 3


async def test_a_service_may_leave_nothing_half_placed(database: Database) -> None:
    async def place_without_hash() -> None:
        async with database.transaction() as connection:
            await append(connection, [row()])
            await connection.execute("UPDATE outbox SET sequence = 1")

    with pytest.raises(Exception, match="check constraint"):
        await place_without_hash()


def test_columns_are_for_unnest() -> None:
    rows = [row(), row(event=created())]
    entries, headers, subjects, events = columns(rows)
    assert entries == [one.entry for one in rows]
    assert [headers[0], subjects[0], events[0]] == [None, None, None]
    assert events[1] == created().model_dump_json()


def test_a_backlog_is_full_above_its_limit() -> None:
    backlog = Backlog(limit=2)
    assert not backlog.full
    backlog.waiting = 2
    assert not backlog.full
    backlog.waiting = 3
    assert backlog.full


async def test_a_nudge_wakes_who_waits() -> None:
    backlog = Backlog(limit=2)
    waiting = asyncio.create_task(backlog.nudged.wait())
    backlog.nudge()
    async with asyncio.timeout(1):
        assert await waiting


@pytest.mark.parametrize(
    ("said", "kept"), [("a\x00b", "a\ufffdb"), ("a\\u0000b", "a\\u0000b"), ("\\\x00", "\\\ufffd")]
)
def test_nothing_is_kept_that_postgres_cannot_read(said: str, kept: str) -> None:
    actor = Actor(kind="user", id="7", name=said)
    entry = json.loads(row(actor, detail={"said": [said, {"again": said}]}).entry)
    assert entry["actor"]["name"] == kept
    assert entry["detail"] == {"said": [kept, {"again": kept}]}
