"""One message, one transaction: all of it or nothing."""

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

from contracts.audit import AuditObject, Outcome
from contracts.errors import CertwireError, ErrorCode
from contracts.events import CaCreated
from contracts.messages import Call, Command, Done, Message
from contracts.principal import ANONYMOUS, system
from contracts.subjects import Service, command
from shared.database import Database
from shared.outbox import Backlog
from shared.settings import Settings
from shared.unit_of_work import unit_of_work
from tests.support.outcomes import refused
from tests.support.servers import Place

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ROOT = AuditObject(type="ca", id="root", name="Root")
CREATED = CaCreated(
    ca="root", fingerprint="0" * 64, subject="CN=x", not_after=datetime(2036, 1, 1, tzinfo=UTC)
)


class Create(Command[Done]):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "ca", "create")
    ACTION: ClassVar[str | None] = "ca_create"
    REPLY: ClassVar[type[Message]] = Done


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    database = await Database.open(place.settings(Settings), "issuer")
    yield database
    await database.close()


def create() -> Create:
    return Create(
        call=Call(request_id="request", deadline=time.time() + 10, traceparent=TRACEPARENT)
    )


async def outbox(database: Database) -> list[dict[str, Any]]:
    async with database.connection() as connection:
        return [dict(row) for row in await connection.fetch("SELECT * FROM outbox")]


async def test_what_was_recorded_is_committed_with_the_change(database: Database) -> None:
    backlog = Backlog(1)
    async with unit_of_work(Service.ISSUER, database, backlog, create()) as work:
        assert work.request_id == "request"
        work.record(ANONYMOUS, "ca_create", ROOT, event=CREATED, detail={"key": "ec"})
        work.record(system("issuer"), "ca_note", ROOT, outcome=Outcome.FAILED, request_id="other")
        assert await work.answer(Done()) == Done()
        assert await outbox(database) == []
        assert not backlog.nudged.is_set()
    assert backlog.nudged.is_set()
    first, second = await outbox(database)
    assert json.loads(first["event_headers"])["ce-traceparent"] == TRACEPARENT
    assert json.loads(first["entry"])["detail"] == {"key": "ec"}
    assert json.loads(second["entry"])["request_id"] == "other"
    assert second["event"] is None


async def test_a_refusal_leaves_neither_change_nor_record(database: Database) -> None:
    backlog = Backlog(1)
    with refused(ErrorCode.CONFLICT):
        async with unit_of_work(Service.ISSUER, database, backlog, create()) as work:
            await work.connection.execute("INSERT INTO inbox VALUES ('a', 'b')")
            work.record(ANONYMOUS, "ca_create", ROOT)
            raise CertwireError(ErrorCode.CONFLICT)
    assert await outbox(database) == []
    assert not backlog.nudged.is_set()


async def test_a_command_that_only_reads_leaves_no_record(database: Database) -> None:
    async with unit_of_work(Service.ISSUER, database, Backlog(1), create()) as work:
        assert await work.connection.fetchval("SELECT 1") == 1
    assert await outbox(database) == []
