"""What readers of the log get: which records, in which order, and how they are found."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from contracts.audit import Actor, AuditObject
from contracts.audit_log import KeptRecord, ListAuditRecords
from contracts.principal import Principal, PrincipalKind, Role
from services.audit import store
from services.audit.domain.verification import Genuine, examine
from shared.database import Database, plan_for_arguments
from shared.migrations import migrations_of
from shared.settings import Settings
from tests.support.audit import Chain, arrival
from tests.support.plans import plan_of, slowest
from tests.support.running import call
from tests.support.servers import Place, PostgresServer

ROOT = Principal(kind=PrincipalKind.USER, id="1", name="root", role=Role.SUPERUSER)
ALICE = Actor(kind="user", id="7", name="alice", organization_id=3)
BOB = Actor(kind="user", id="8", name="bob", organization_id=4)
SWEEPER = Actor(kind="system", id="7", name="issuer")
OF_THREE = AuditObject(type="ca", id="1", name="CN=three", organization_id=3)
OF_NOBODY = AuditObject(type="agent", id="web-1", name="web-1")


def asked(**conditions: Any) -> ListAuditRecords:  # noqa: ANN401 - any condition
    return ListAuditRecords(call=call(), actor=ROOT, **conditions)


class Log:
    """The log of a database of one's own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.chain = Chain()
        self._position = 0

    async def keep(
        self,
        actor: Actor,
        about: AuditObject,
        action: str = "ca_create",
        **changes: Any,  # noqa: ANN401 - any field
    ) -> None:
        """Keep one record; what changes in it is not in its hash, which nobody looks at here."""
        self.chain.actor, self.chain.about = actor, about
        genuine = examine(arrival(self.chain.next(action)))
        assert isinstance(genuine, Genuine)
        if changes:
            record = genuine.record.model_copy(update=changes)
            genuine = Genuine(genuine.arrival, record, record.model_dump_json())
        async with self.database.connection() as connection:
            await store.keep(connection, [genuine], self._position)
        self._position += 1

    async def find(
        self,
        organization_id: int | None = None,
        **conditions: Any,  # noqa: ANN401 - any condition
    ) -> tuple[KeptRecord, ...]:
        async with self.database.transaction() as connection:
            await plan_for_arguments(connection)
            return await store.log(connection, asked(**conditions), organization_id)

    async def positions(
        self,
        organization_id: int | None = None,
        **conditions: Any,  # noqa: ANN401 - any condition
    ) -> list[int]:
        return [record.position for record in await self.find(organization_id, **conditions)]


@pytest.fixture
async def log(place: Place) -> AsyncIterator[Log]:
    database = await Database.open(place.settings(Settings), "audit")
    yield Log(database)
    await database.close()


async def test_a_record_is_listed_with_all_that_it_says(log: Log) -> None:
    await log.keep(ALICE, OF_THREE)
    (record,) = await log.find()
    made = log.chain.made[0]
    assert record.model_dump(mode="json", include={"action", "request_id", "outcome"}) == {
        name: made[name] for name in ("action", "request_id", "outcome")
    }
    assert (record.actor, record.object, record.organization_id) == (ALICE, OF_THREE, 3)
    assert (record.position, record.detail) == (1, {})


async def test_each_condition_is_met_and_all_together(log: Log) -> None:
    await log.keep(ALICE, OF_THREE)
    await log.keep(BOB, OF_THREE, "ca_delete")
    await log.keep(SWEEPER, OF_NOBODY)
    await log.keep(BOB, OF_NOBODY)
    assert await log.positions() == [4, 3, 2, 1]
    assert await log.positions(action="ca_create") == [4, 3, 1]
    assert await log.positions(user_id=7) == [1], "the system of that id is no user"
    assert await log.positions(object_type="agent") == [4, 3]
    assert await log.positions(object_id="1") == [2, 1]
    assert await log.positions(object_type="agent", object_id="1") == []
    assert await log.positions(action="ca_create", user_id=8) == [4]
    assert await log.positions(action="' OR true --") == []
    assert await log.positions(skip=1, limit=2) == [3, 2]
    assert await log.positions(skip=4) == []


async def test_an_organization_sees_what_its_own_did_and_what_was_done_to_it(log: Log) -> None:
    await log.keep(ALICE, OF_NOBODY)
    await log.keep(BOB, OF_THREE)
    await log.keep(SWEEPER, OF_THREE)
    await log.keep(SWEEPER, OF_NOBODY)
    assert await log.positions(3) == [3, 2, 1]
    assert await log.positions(4) == [2]
    assert await log.positions(5) == []
    assert await log.positions(4, action="ca_create", user_id=7) == []


async def test_the_newest_comes_first_by_time_not_by_arrival(log: Log) -> None:
    noon = datetime(2026, 4, 19, 12, tzinfo=UTC)
    for minutes in (0, 20, 10, 10):
        await log.keep(ALICE, OF_THREE, time=noon + timedelta(minutes=minutes))
    assert await log.positions() == [2, 4, 3, 1]
    ten = noon + timedelta(minutes=10)
    assert await log.positions(since=ten) == [2, 4, 3]
    assert await log.positions(until=ten) == [4, 3, 1]
    assert await log.positions(since=ten, until=ten) == [4, 3]
    extremes: dict[str, Any] = {
        "since": datetime.min.replace(tzinfo=UTC),
        "until": datetime.max.replace(tzinfo=UTC),
    }
    assert await log.positions(**extremes) == [2, 4, 3, 1]


async def test_the_longest_and_oddest_texts_are_listed_and_looked_up(log: Log) -> None:
    odd = AuditObject(type="x\x00", id="é" * 5000, name="\x00")
    await log.keep(ALICE, odd)
    (record,) = await log.find(object_id="é" * 5000)
    assert record.object.id == "é" * store.INDEXED_CHARACTERS
    assert (record.object.name, record.detail) == ("\ufffd", None)
    assert await log.positions(object_type="x\x00") == [1]


async def test_records_from_before_know_the_organization_of_their_actor(
    log: Log, postgres: PostgresServer, database_url: str
) -> None:
    """The migration, on a table that has rows: texts with U+0000 and what looks like it too."""
    odd = AuditObject(type="ca", id="1", name="\x00 and \\u0000")
    for actor in (ALICE, BOB, SWEEPER):
        await log.keep(actor, odd)
    (migration,) = (m for m in migrations_of("audit") if m.name == "audit/0002_log")
    connection = await asyncpg.connect(
        postgres.superuser_url_of(database_url.rsplit("/", 1)[-1]),
        server_settings={"search_path": "audit"},
    )
    try:
        await connection.execute(
            "ALTER TABLE record DROP actor_organization_id;"
            "DROP INDEX record_user, record_object_type;"
            "CREATE INDEX record_actor ON record (actor_id)"
        )
        await connection.execute(migration.sql)
        rows = await connection.fetch("SELECT actor_organization_id FROM record ORDER BY position")
    finally:
        await connection.close()
    assert [row[0] for row in rows] == [3, 4, None]
    await log.keep(ALICE, OF_THREE)
    assert await log.positions(4) == [2]


ROWS = 300_000
FILL = """
INSERT INTO audit.record (position, service, sequence, hash, record, time, action, actor_kind,
    actor_id, object_type, object_id, organization_id, actor_organization_id, outcome, request_id)
SELECT n, 'issuer', n, '', $1, timestamptz '2026-01-01' + n * interval '10 s',
    CASE WHEN n % 100000 = 0 THEN 'ca_delete' WHEN n % 50 = 0 THEN 'login_success'
        ELSE 'cert_create' END,
    CASE WHEN n % 3 = 0 THEN 'user' ELSE 'instance' END, (n % 5000)::text,
    CASE WHEN n % 100000 = 0 THEN 'ca' WHEN n % 50 = 0 THEN 'user' ELSE 'certificate' END, n::text,
    CASE WHEN n % 2 = 0 THEN n % 400 WHEN n % 3 = 0 THEN 1 END,
    CASE WHEN n % 5 = 0 THEN n % 400 END, 'success', ''
FROM generate_series(1, $2::bigint) AS n
"""
LONG_AGO = datetime(2026, 1, 3, tzinfo=UTC)
BUSY = 1
"""An organisation with a sixth of all records; the others have a few thousand."""


async def test_many_records_are_searched_by_index(
    log: Log, postgres: PostgresServer, database_url: str
) -> None:
    """Filled without the indexes, which are made again afterwards: it takes a third of the time."""
    text = str(arrival(log.chain.next()).payload, "utf-8")
    connection = await asyncpg.connect(
        postgres.superuser_url_of(database_url.rsplit("/", 1)[-1]), command_timeout=120
    )
    try:
        indexes = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'record'"
            " AND schemaname = 'audit' AND indexname ~ '^record_' AND indexdef !~ 'UNIQUE'"
        )
        for index in indexes:
            await connection.execute(f"DROP INDEX audit.{index['indexname']}")
        await connection.execute(FILL, text, ROWS)
        for index in indexes:
            await connection.execute(index["indexdef"])
        await connection.execute("VACUUM ANALYZE audit.record")
    finally:
        await connection.close()
    searches: dict[str, tuple[int | None, dict[str, Any]]] = {
        "everything": (None, {}),
        "a rare action": (None, {"action": "ca_delete"}),
        "a frequent action": (None, {"action": "cert_create"}),
        "an action long ago": (None, {"action": "login_success", "until": LONG_AGO}),
        "a user": (None, {"user_id": 42}),
        "a user's rare action": (None, {"user_id": 42, "action": "ca_delete"}),
        "a type": (None, {"object_type": "ca"}),
        "an object": (None, {"object_type": "certificate", "object_id": "123"}),
        "a day long ago": (None, {"since": LONG_AGO, "until": LONG_AGO + timedelta(days=1)}),
        "since the end": (None, {"since": LONG_AGO + timedelta(days=3650)}),
        "an organisation": (200, {}),
        "a busy organisation": (BUSY, {}),
        "an organisation's rare action": (BUSY, {"action": "ca_delete"}),
        "an organisation long ago": (200, {"until": LONG_AGO}),
        "nobody's": (9999, {}),
        "a page further on": (None, {"skip": 1000, "limit": 1000}),
    }
    async with log.database.transaction() as lent:
        await plan_for_arguments(lent)
        for name, (organization_id, conditions) in searches.items():
            search = asked(**conditions)
            arguments = store.log_arguments(search, organization_id)
            plan = await plan_of(lent, store.LOG, *arguments)
            assert not plan.read_whole, (name, plan)
            assert plan.rows_sorted <= 10_000, (name, plan)
            assert plan.rows_read <= 20_000, (name, plan)
            assert await slowest(lent, store.LOG, *arguments) < 0.2, name
