"""The life of a service: ready when nothing is missing, honest until then, gone when told to."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import IdempotencyKey
from contracts.principal import ANONYMOUS, Principal, PrincipalKind
from contracts.status import GetStatus, StatusReport, status_subject
from contracts.subjects import Service
from shared import runtime as runtime_module
from shared.broker import Bus
from shared.runtime import Application, operations_server
from shared.settings import Settings
from tests.support.collector import collecting
from tests.support.eventually import eventually
from tests.support.outcomes import refused
from tests.support.running import bus, call, running
from tests.support.sample_service import Count, Keep, Kept, build
from tests.support.servers import NatsServer, Place, PostgresServer

ADMIN = Principal(kind=PrincipalKind.ADMIN, id="admin", name="Zoë")
STATUS = status_subject(Service.INSTANCE)


def keep(name: str = "a", seconds: float = 0, principal: Principal = ADMIN, **others: Any) -> Keep:  # noqa: ANN401 - of the call
    asked = call(20).model_copy(update={"source_address": "10.0.0.1", **others})
    return Keep(call=asked, principal=principal, name=name, seconds=seconds)


@pytest.fixture
async def caller(bus_place: Place) -> AsyncIterator[Bus]:
    async with bus(bus_place.settings(Settings), "gateway") as caller:
        yield caller


@pytest.fixture
async def service(bus_place: Place) -> AsyncIterator[Application]:
    async with running(await build(bus_place.settings(Settings))) as service:
        yield service


@asynccontextmanager
async def starting(application: Application) -> AsyncIterator["asyncio.Task[None]"]:
    """Start a service that may not get ready; the task ends when it is."""
    task = asyncio.create_task(application.start())
    try:
        yield task
    finally:
        await runtime_module.cancel([task])
        await application.stop()


async def superuser(postgres: PostgresServer, place: Place, *statements: str) -> None:
    database = place.database_url.rsplit("/", 1)[-1]
    connection = await asyncpg.connect(postgres.superuser_url_of(database))
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def records(service: Application) -> list[dict[str, Any]]:
    async with service.runtime.database.connection() as connection:
        rows = await connection.fetch("SELECT entry FROM outbox ORDER BY position")
    return [json.loads(row["entry"]) for row in rows]


async def status(caller: Bus) -> StatusReport | None:
    """Return what the service says of itself, or None while nobody answers."""
    try:
        return await caller.request(GetStatus(call=call(2)), STATUS)
    except CertwireError:
        return None


async def test_a_service_that_lacks_nothing_is_ready(service: Application, caller: Bus) -> None:
    report = await status(caller)
    assert report is not None
    assert report.ready
    assert (report.service, report.missing) == ("instance", ())
    assert await caller.request(keep("a")) == Kept(name="a")
    assert await caller.request(Count(call=call())) == Kept(name="1")
    assert len(await records(service)) == 1


async def test_it_is_not_ready_until_its_schema_is_migrated(
    postgres: PostgresServer, bus_place: Place, caller: Bus
) -> None:
    await superuser(postgres, bus_place, "ALTER TABLE instance.migration RENAME TO hidden")
    async with starting(await build(bus_place.settings(Settings))) as started:
        report = await eventually(lambda: status(caller), "an answer")
        assert report is not None
        assert not report.ready
        assert report.missing == ("the schema is not migrated",)
        with refused(ErrorCode.UNAVAILABLE):
            await caller.request(keep())
        await superuser(postgres, bus_place, "ALTER TABLE instance.hidden RENAME TO migration")
        async with asyncio.timeout(10):
            await started
        assert await caller.request(keep("a")) == Kept(name="a")


async def test_a_schema_of_a_later_version_is_not_worked_on(
    postgres: PostgresServer, bus_place: Place, caller: Bus
) -> None:
    newer = "INSERT INTO instance.migration VALUES ('instance/9999_later', '')"
    await superuser(postgres, bus_place, newer)
    async with starting(await build(bus_place.settings(Settings))):
        report = await eventually(lambda: status(caller), "an answer")
        assert report is not None
        assert report.missing == ("the schema is newer than this version",)


async def test_it_prepares_before_its_first_command_and_again_until_that_works(
    bus_place: Place, caller: Bus
) -> None:
    tries: list[int] = []

    async def prepare() -> None:
        tries.append(1)
        with pytest.raises(CertwireError):
            await caller.request(keep())
        if len(tries) < 3:
            raise CertwireError(ErrorCode.NOT_INITIALISED, "nobody made a CA")

    application = await build(bus_place.settings(Settings))
    application.prepare = prepare
    async with starting(application) as started:

        async def says_why() -> bool:
            report = await status(caller)
            return report is not None and report.missing == ("nobody made a CA",)

        await eventually(says_why, "the reason")
        async with asyncio.timeout(20):
            await started
    assert len(tries) == 3


async def test_readiness_names_every_part_that_is_away(
    postgres: PostgresServer, nats_server: NatsServer, service: Application
) -> None:
    server = operations_server(service.runtime.settings, service.status)
    server.start()

    async def ready(missing: list[str]) -> bool:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            response = await client.get("/readyz", timeout=15)
            assert (await client.get("/healthz")).text == "ok\n"
            assert "certwire_outbox_waiting" in (await client.get("/metrics")).text
        assert response.status_code == (503 if response.json()["missing"] else 200)
        return bool(response.json()["missing"] == missing)

    try:
        await eventually(lambda: ready([]), "readiness")
        nats_server.stop()
        await eventually(lambda: ready(["nats"]), "that NATS is missing")
        postgres.stop()
        await eventually(lambda: ready(["postgres", "nats"]), "that both are missing")
    finally:
        postgres.start()
        await nats_server.start()
    await eventually(lambda: ready([]), "readiness again")
    await server.stop()


async def test_a_service_that_never_reached_nats_says_so(bus_place: Place) -> None:
    nowhere = Place(bus_place.home, bus_place.database_url)
    application = await build(nowhere.settings(Settings))
    async with starting(application):
        assert (await application.status()).missing == ("nats",)


async def test_refusals_are_on_record_with_who_and_why(service: Application, caller: Bus) -> None:
    with refused(ErrorCode.FORBIDDEN):
        await caller.request(keep("forbidden"))
    for name, code in (("crash", ErrorCode.INTERNAL), ("unheard", ErrorCode.UNAVAILABLE)):
        with refused(code):
            await caller.request(keep(name))
    (record,) = await records(service)
    assert record["outcome"] == "refused"
    assert record["action"] == "name_keep"
    assert record["actor"]["name"] == "Zoë"
    assert record["detail"] == {"code": "forbidden", "address": "10.0.0.1"}


async def test_a_flood_of_refusals_is_counted(
    bus_place: Place, caller: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "BUDGET", 3)
    monkeypatch.setattr(runtime_module, "COUNT_SECONDS", 0.1)
    monkeypatch.setattr("shared.refusals.WINDOW_SECONDS", 0.5)
    async with running(await build(bus_place.settings(Settings))) as service:
        for _ in range(10):
            with refused(ErrorCode.FORBIDDEN):
                await caller.request(keep("forbidden", principal=ANONYMOUS))

        async def all_on_record() -> bool:
            counts = [int(one["detail"].get("count", 1)) for one in await records(service)]
            return sum(counts) == 10

        await eventually(all_on_record, "ten refusals on record")
        assert len(await records(service)) < 10


async def test_a_backlog_stops_changes_and_not_questions(
    postgres: PostgresServer, bus_place: Place, caller: Bus
) -> None:
    holder = await asyncpg.connect(
        postgres.superuser_url_of(bus_place.database_url.rsplit("/", 1)[-1])
    )
    lock = "SELECT pg_advisory_lock($1, hashtext('instance'))"
    await holder.execute(lock, 0x6F7574)  # another replica's relay, which does nothing
    async with running(await build(bus_place.settings(Settings, outbox_limit=3))) as service:
        for number in range(4):
            await caller.request(keep(f"{number}"))

        async def is_full() -> bool:
            return service.runtime.backlog.waiting == 4

        await eventually(is_full, "a backlog")
        with refused(ErrorCode.OVERLOADED):
            await caller.request(keep("one too many"))
        assert await caller.request(Count(call=call())) == Kept(name="4")
        report = await status(caller)
        assert report is not None
        assert report.outbox_waiting == 4
        await holder.close()

        async def is_empty() -> bool:
            return service.runtime.backlog.waiting == 0

        await eventually(is_empty, "an empty outbox")
        assert await caller.request(keep("next")) == Kept(name="next")


async def test_a_command_that_is_delivered_twice_takes_effect_once(
    service: Application, caller: Bus
) -> None:
    key = IdempotencyKey(scope="a" * 64, key="key", request="b" * 64)
    command = keep("once", seconds=0.2, idempotency=key)
    again = keep("once", idempotency=key)
    replies = await asyncio.gather(*map(caller.request, (command, command, again)))
    assert replies == [Kept(name="once")] * 3
    assert len(await records(service)) == 1


async def test_background_work_that_fails_begins_again(bus_place: Place) -> None:
    began: list[int] = []

    async def work() -> None:
        began.append(1)
        raise LookupError("once in a while")

    application = await build(bus_place.settings(Settings))
    application.background = (work,)
    async with running(application):

        async def twice() -> bool:
            return len(began) > 1

        await eventually(twice, "a second beginning")


async def test_what_nobody_repeats_any_more_is_forgotten(
    postgres: PostgresServer, bus_place: Place
) -> None:
    await superuser(
        postgres,
        bus_place,
        "INSERT INTO instance.inbox VALUES ('a', 'old', '', now() - interval '36 days')",
        "INSERT INTO instance.inbox VALUES ('a', 'new', '', now() - interval '34 days')",
    )
    async with running(await build(bus_place.settings(Settings))) as service:

        async def forgotten() -> bool:
            async with service.runtime.database.connection() as connection:
                rows = await connection.fetch("SELECT message_id FROM inbox")
            return [row["message_id"] for row in rows] == ["new"]

        await eventually(forgotten, "the old one gone")


@dataclass
class Process:
    """A service in a process of its own, and what it printed."""

    process: asyncio.subprocess.Process

    async def line(self, message: str) -> dict[str, Any]:
        """Return the log line with a message, once it is there."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            while True:
                text = await self.process.stdout.readline()
                assert text, f"it ended without saying {message!r}"
                line: dict[str, Any] = json.loads(text)
                if line["message"] == message:
                    return line

    async def ends(self, within_seconds: float) -> int:
        """Tell it to stop; return its exit code."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        await self.line("stopping")
        async with asyncio.timeout(30):
            code = await self.process.wait()
        assert time.monotonic() - began < within_seconds
        return code


@asynccontextmanager
async def in_a_process(place: Place, **environment: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.sample_service",
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "CERTWIRE_HOME": str(place.home),
            "CERTWIRE_DATABASE_URL": place.database_url,
            "CERTWIRE_NATS_URL": place.nats_url,
            **environment,
        },
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_told_to_stop_it_finishes_its_work_and_leaves(bus_place: Place, caller: Bus) -> None:
    async with in_a_process(bus_place) as service:
        await service.line("ready")
        waiting = [
            asyncio.create_task(caller.request(keep(f"{number}", seconds=0.5)))
            for number in range(8)
        ]
        await asyncio.sleep(0.25)
        assert await service.ends(within_seconds=2.5) == 0
        assert [reply.name for reply in await asyncio.gather(*waiting)] == list("01234567")
        with refused(ErrorCode.UNAVAILABLE):
            await caller.request(keep())


async def test_work_without_end_does_not_keep_it(bus_place: Place, caller: Bus) -> None:
    async with in_a_process(bus_place) as service:
        await service.line("ready")
        waiting = asyncio.create_task(caller.request(keep("never", seconds=60)))
        await asyncio.sleep(0.25)
        assert await service.ends(within_seconds=2.5 + 1) == 0  # the machine may be busy
        waiting.cancel()
        assert await asyncio.gather(waiting, return_exceptions=True)
    async with running(await build(bus_place.settings(Settings))):
        assert await caller.request(Count(call=call())) == Kept(name="0")


async def test_told_to_stop_before_it_is_ready_it_leaves(bus_place: Place) -> None:
    nowhere = Place(bus_place.home, bus_place.database_url)
    async with in_a_process(nowhere) as service:
        await service.line("starting")
        assert await service.ends(within_seconds=2.5) == 0


async def test_without_postgres_and_nats_it_leaves_as_well(
    bus_place: Place, postgres: PostgresServer, nats_server: NatsServer
) -> None:
    async with in_a_process(bus_place) as service:
        await service.line("ready")
        nats_server.stop()
        try:
            postgres.stop()
            await asyncio.sleep(0.3)
            assert await service.ends(within_seconds=2.5 + 1) == 0
        finally:
            postgres.start()


async def test_a_trace_runs_from_the_caller_into_the_sql(bus_place: Place, caller: Bus) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    with collecting() as collector:
        async with in_a_process(bus_place, CERTWIRE_OTLP_ENDPOINT=collector.url) as service:
            await service.line("ready")
            traced = keep("traced", traceparent=f"00-{trace}-b7ad6b7169203331-01")
            await caller.request(traced)
            assert await service.ends(within_seconds=4) == 0
    spans = [span for span in collector.spans if span.trace_id == trace]
    (served,) = (span for span in spans if span.name == Keep.SUBJECT)
    statements = [span for span in spans if span.attributes.get("db.system.name") == "postgresql"]
    assert served.parent_id == "b7ad6b7169203331"
    assert {"BEGIN;", "INSERT", "COMMIT;"} <= {span.name for span in statements}
    assert {span.parent_id for span in statements} == {served.span_id}
    assert all(span.service == "instance" for span in spans)
