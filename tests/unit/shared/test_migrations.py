"""Migrations: in order, once, by one at a time, and never past what is known."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from shared import migrations
from shared.database import role_url
from shared.migrations import MigrationError, migrate, migrations_of, schema_problem
from shared.settings import Settings
from tests.support.servers import Place, PostgresServer

SERVICE = "orchard"
Owner = asyncpg.Connection


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two migrations for all and one of the service's own."""
    monkeypatch.setattr(migrations, "ROOT", tmp_path)
    write(tmp_path / "shared", "0001_first", "CREATE TABLE first (n int)")
    write(tmp_path / "shared", "0002_second", "INSERT INTO first VALUES (2)")
    write(tmp_path / "services" / SERVICE, "0001_trees", "CREATE TABLE tree AS TABLE first")
    return tmp_path


def write(origin: Path, name: str, sql: str) -> None:
    (origin / "migrations").mkdir(parents=True, exist_ok=True)
    (origin / "migrations" / f"{name}.sql").write_text(sql)


@pytest.fixture
async def url(postgres: PostgresServer, place: Place, database_url: str) -> str:
    """The address of a database with an empty schema, for the role that owns it."""
    superuser = await asyncpg.connect(postgres.superuser_url_of(database_url.rsplit("/", 1)[-1]))
    await superuser.execute(f"CREATE SCHEMA {SERVICE} AUTHORIZATION certwire_migrate")
    await superuser.close()
    return role_url(place.settings(Settings), "certwire_migrate")


@pytest.fixture
async def owner(url: str) -> AsyncIterator[Owner]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def problem(owner: Owner) -> str | None:
    await owner.execute(f"SET search_path = {SERVICE}")
    return await schema_problem(owner, SERVICE)


def test_every_service_begins_with_what_all_have() -> None:
    names = [migration.name for migration in migrations_of("issuer")]
    assert names[0] == "shared/0001_mechanism"
    assert names == sorted(names, key=lambda name: name.startswith("issuer/"))
    assert len(names) == len(set(names))


@pytest.mark.usefixtures("files")
async def test_files_are_applied_in_order_and_once(owner: Owner) -> None:
    assert await migrate(owner, SERVICE) == [
        "shared/0001_first",
        "shared/0002_second",
        "orchard/0001_trees",
    ]
    assert await owner.fetchval("SELECT n FROM orchard.tree") == 2
    assert await migrate(owner, SERVICE) == []
    assert await owner.fetchval("SELECT current_schemas(false)") != [SERVICE]


async def test_a_later_file_is_applied_to_what_is_there(files: Path, owner: Owner) -> None:
    await migrate(owner, SERVICE)
    write(files / "shared", "0003_third", "INSERT INTO first VALUES (3)")
    assert await migrate(owner, SERVICE) == ["shared/0003_third"]


async def test_a_file_that_fails_leaves_nothing_and_the_next_run_goes_on(
    files: Path, owner: Owner
) -> None:
    write(files / "services" / SERVICE, "0001_trees", "CREATE TABLE tree (n int); SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(owner, SERVICE)
    assert await owner.fetchval("SELECT to_regclass($1)", f"{SERVICE}.tree") is None
    assert await problem(owner) == "the schema is older than this version: run `certwire migrate`"
    write(files / "services" / SERVICE, "0001_trees", "CREATE TABLE tree (n int)")
    assert await migrate(owner, SERVICE) == ["orchard/0001_trees"]


async def test_of_two_at_once_one_waits_for_the_other(files: Path, url: str) -> None:
    write(files / "shared", "0003_slow", "SELECT pg_sleep(0.3)")
    connections = [await asyncpg.connect(url) for _ in range(3)]
    applied = await asyncio.gather(*(migrate(connection, SERVICE) for connection in connections))
    assert sorted(map(len, applied)) == [0, 0, 4]
    for connection in connections:
        await connection.close()


async def test_the_lock_dies_with_who_holds_it(files: Path, url: str, owner: Owner) -> None:
    write(files / "shared", "0003_endless", "SELECT pg_sleep(60)")
    holder = await asyncpg.connect(url)
    endless = asyncio.create_task(migrate(holder, SERVICE))
    while not await owner.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert await owner.fetchval("SELECT pg_terminate_backend($1, 5000)", holder.get_server_pid())
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await endless
    write(files / "shared", "0003_endless", "SELECT 1")
    async with asyncio.timeout(10):
        assert "shared/0003_endless" in await migrate(owner, SERVICE)


async def test_a_file_that_changed_after_it_was_applied_is_refused(
    files: Path, owner: Owner
) -> None:
    await migrate(owner, SERVICE)
    write(files / "shared", "0001_first", "CREATE TABLE first (n bigint)")
    write(files / "shared", "0003_third", "INSERT INTO first VALUES (3)")
    with pytest.raises(MigrationError, match="shared/0001_first was changed"):
        await migrate(owner, SERVICE)
    assert await owner.fetchval("SELECT count(*) FROM orchard.first") == 1


async def test_a_schema_that_is_newer_than_the_files_is_left_alone(
    files: Path, owner: Owner
) -> None:
    await migrate(owner, SERVICE)
    (files / "services" / SERVICE / "migrations" / "0001_trees.sql").unlink()
    write(files / "shared", "0003_third", "INSERT INTO first VALUES (3)")
    with pytest.raises(MigrationError, match="newer"):
        await migrate(owner, SERVICE)
    assert await owner.fetchval("SELECT count(*) FROM orchard.first") == 1


async def test_a_service_sees_whether_it_can_work(files: Path, owner: Owner) -> None:
    assert await problem(owner) == "the schema is not migrated"
    await migrate(owner, SERVICE)
    assert await problem(owner) is None
    write(files / "shared", "0003_third", "SELECT 1")
    assert await problem(owner) == "the schema is older than this version: run `certwire migrate`"
    (files / "shared" / "migrations" / "0003_third.sql").unlink()
    (files / "shared" / "migrations" / "0002_second.sql").unlink()
    assert await problem(owner) == "the schema is newer than this version"
