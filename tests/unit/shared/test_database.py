"""Connections of a role: transactions, and what callers hear when the server goes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from contracts.errors import CertwireError, ErrorCode
from shared.database import Database, role_url
from shared.settings import Settings
from tests.support.outcomes import refused
from tests.support.servers import Place, PostgresServer

PUT = "INSERT INTO inbox (source, message_id) VALUES ('test', $1)"
COUNT = "SELECT count(*) FROM inbox"


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    database = await Database.open(place.settings(Settings), "issuer")
    yield database
    await database.close()


@pytest.fixture
async def other(place: Place) -> AsyncIterator[Database]:
    database = await Database.open(place.settings(Settings), "issuer")
    yield database
    await database.close()


async def count(database: Database) -> int:
    async with database.connection() as connection:
        return int(await connection.fetchval(COUNT))


async def kill_backend(database: Database, pid: int) -> None:
    async with database.connection() as connection:
        await connection.execute("SELECT pg_terminate_backend($1)", pid)


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("postgresql://db:5433/certwire", "postgresql://issuer:pw@db:5433/certwire"),
        ("postgresql://admin:other@db/certwire", "postgresql://issuer:pw@db/certwire"),
        (
            "postgresql://[::1]:5433/x?sslmode=require",
            "postgresql://issuer:pw@[::1]:5433/x?sslmode=require",
        ),
    ],
)
def test_the_role_replaces_whoever_the_url_names(
    tmp_path: Path, configured: str, expected: str
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "postgres-issuer.password").write_text("pw\n")
    assert role_url(Place(tmp_path, configured).settings(Settings), "issuer") == expected


async def test_a_role_works_in_its_own_schema(database: Database) -> None:
    async with database.connection() as connection:
        row = await connection.fetchrow("SELECT current_user AS role, current_schema() AS schema")
    assert row is not None
    assert (row["role"], row["schema"]) == ("issuer", "issuer")


async def test_a_transaction_commits_as_a_whole(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(PUT, "1")
        await connection.execute(PUT, "2")
        assert await count(database) == 0
    assert await count(database) == 2


@pytest.mark.parametrize("error", [ValueError, CertwireError, asyncio.CancelledError])
async def test_an_error_undoes_everything_and_passes_through(
    database: Database, error: type[BaseException]
) -> None:
    raised = CertwireError(ErrorCode.CONFLICT) if error is CertwireError else error("mine")

    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(PUT, "1")
            raise raised

    with pytest.raises(error) as caught:
        await fail()
    assert caught.value is raised
    assert await count(database) == 0


async def test_a_task_that_is_cancelled_undoes_its_transaction(database: Database) -> None:
    began = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as connection:
            await connection.execute(PUT, "1")
            began.set()
            await connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await count(database) == 0


async def test_a_refusal_is_not_lost_with_the_connection(
    database: Database, other: Database
) -> None:
    with refused(ErrorCode.CONFLICT):
        async with database.transaction() as connection:
            await kill_backend(other, connection.get_server_pid())
            raise CertwireError(ErrorCode.CONFLICT)
    assert await count(database) == 0


async def test_a_loss_before_the_commit_is_unavailable(database: Database, other: Database) -> None:
    with refused(ErrorCode.UNAVAILABLE):
        async with database.transaction() as connection:
            await kill_backend(other, connection.get_server_pid())
            await connection.execute(PUT, "1")
    assert await count(database) == 0


async def test_a_loss_during_the_commit_is_unknown(database: Database, other: Database) -> None:
    with refused(ErrorCode.OUTCOME_UNKNOWN):
        async with database.transaction() as connection:
            await connection.execute(PUT, "1")
            await kill_backend(other, connection.get_server_pid())
    assert await count(database) == 0


async def test_a_loss_during_a_single_statement_is_unknown(
    database: Database, other: Database
) -> None:
    async def lose() -> None:
        async with database.statement() as connection:
            pid.set_result(connection.get_server_pid())
            await connection.execute("SELECT pg_sleep(60)")

    pid: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    losing = asyncio.create_task(lose())
    await kill_backend(other, await pid)
    with refused(ErrorCode.OUTCOME_UNKNOWN):
        await losing


async def test_a_loss_while_reading_is_unavailable(database: Database, other: Database) -> None:
    with refused(ErrorCode.UNAVAILABLE):
        async with database.connection() as connection:
            await kill_backend(other, connection.get_server_pid())
            await connection.fetchval(COUNT)


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
async def test_a_statement_that_takes_too_long_is_unavailable(
    database: Database, other: Database, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with other.transaction() as holder:
        await holder.execute("LOCK TABLE inbox")
        with refused(ErrorCode.UNAVAILABLE):
            async with database.transaction() as connection:
                await connection.execute(f"SET LOCAL {setting} = '50ms'")
                await connection.execute(PUT, "1")
    async with database.transaction() as connection:  # the next one gets it clean
        await connection.execute(PUT, "2")
    assert await count(database) == 1
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_the_loser_of_a_deadlock_may_try_again(database: Database, other: Database) -> None:
    async with database.transaction() as connection:
        await connection.executemany(PUT, [("a",), ("b",)])

    async def touch(where: Database, first: str, second: str) -> None:
        async with where.transaction() as connection:
            await connection.execute("UPDATE inbox SET reply='x' WHERE message_id=$1", first)
            await barrier.wait()
            await connection.execute("UPDATE inbox SET reply='x' WHERE message_id=$1", second)

    barrier = asyncio.Barrier(2)
    outcomes = await asyncio.gather(
        touch(database, "a", "b"), touch(other, "b", "a"), return_exceptions=True
    )
    lost = [outcome for outcome in outcomes if isinstance(outcome, CertwireError)]
    assert [error.code for error in lost] == [ErrorCode.UNAVAILABLE]


@pytest.mark.parametrize("statement", ["SELECT $1::text", "SELECT to_jsonb($1::text)"])
async def test_text_that_cannot_be_stored_is_the_callers_mistake(
    database: Database, statement: str
) -> None:
    for opened in (database.connection, database.statement, database.transaction):
        with refused(ErrorCode.INVALID_REQUEST):
            async with opened() as connection:
                await connection.fetchval(statement, "a\0b")
    async with database.transaction() as connection:
        with pytest.raises(asyncpg.UniqueViolationError):  # other errors stay what they are
            await connection.executemany(PUT, [("1",), ("1",)])


async def test_nobody_waits_for_ever_for_a_connection(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.database.LEND_SECONDS", 0.1)
    database = await Database.open(place.settings(Settings, database_connections=2), "issuer")
    async with database.connection(), database.connection():
        with refused(ErrorCode.UNAVAILABLE):
            async with asyncio.timeout(5), database.connection():
                pytest.fail("a third of two")
    await database.close()


async def test_a_login_that_is_refused_is_unavailable(place: Place) -> None:
    database = await Database.open(
        place.settings(Settings, CERTWIRE_DATABASE_URL=place.database_url + "_not_there"), "issuer"
    )
    with refused(ErrorCode.UNAVAILABLE):
        async with database.connection():
            pytest.fail("no such database")
    await database.close()


async def test_the_pool_outlives_the_server(database: Database, postgres: PostgresServer) -> None:
    async with database.transaction() as connection:
        await connection.execute(PUT, "1")
    try:
        postgres.stop()
        with refused(ErrorCode.UNAVAILABLE):
            async with database.transaction() as connection:
                await connection.execute(PUT, "2")
    finally:
        postgres.start()
    assert await count(database) == 1


async def test_closing_does_not_wait_for_work_without_end(database: Database) -> None:
    async def work() -> None:
        async with database.connection() as connection:
            began.set()
            await connection.execute("SELECT pg_sleep(60)")

    began = asyncio.Event()
    task = asyncio.create_task(work())
    await began.wait()
    async with asyncio.timeout(2):
        await database.close()
    with pytest.raises((CertwireError, asyncio.CancelledError)):
        await task


async def test_a_connection_of_its_own_works_in_the_same_schema(database: Database) -> None:
    connection = await database.dedicated()
    assert await connection.fetchval("SELECT current_schema()") == "issuer"
    await connection.close()
