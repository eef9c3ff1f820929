"""Every role on every schema."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from services.provisioning.postgres import (
    INSPECT,
    MIGRATE,
    SERVICES,
    migrate_all,
    provision_postgres,
)
from shared.database import role_url
from shared.settings import Settings
from tests.support.servers import Place, PostgresServer

DATABASE = "provisioned"
ATTEMPTS = {
    "select": "SELECT * FROM {schema}.outbox",
    "insert": "INSERT INTO {schema}.inbox (source, message_id) VALUES ('test', '{role}')",
    "update": "UPDATE {schema}.relay SET published = published",
    "delete": "DELETE FROM {schema}.inbox",
    "create": "CREATE TABLE {schema}.intruder (id int)",
    "drop": "DROP TABLE {schema}.inbox",
}
ROLES = (*SERVICES, MIGRATE, INSPECT)


def allowed(role: str, schema: str) -> set[str]:
    """Return what a role may do in a schema."""
    if role == MIGRATE:
        return set(ATTEMPTS)
    if role == INSPECT:
        return {"select"}
    return {"select", "insert", "update", "delete"} if role == schema else set()


@pytest.fixture(scope="module")
def settings(postgres: PostgresServer) -> Settings:
    """A database with its privileges, which copies of the template do not have."""
    settings = Place(postgres.home, postgres.url(DATABASE)).settings(Settings)
    asyncio.run(provision_postgres(postgres.superuser_url, settings.secrets, DATABASE))
    asyncio.run(migrate_all(settings))
    return settings


@pytest.mark.parametrize("schema", SERVICES)
@pytest.mark.parametrize("role", ROLES)
async def test_a_role_sees_exactly_its_own_schema(
    settings: Settings, role: str, schema: str
) -> None:
    connection = await asyncpg.connect(role_url(settings, role))
    done = set()
    for attempt, statement in ATTEMPTS.items():
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(statement.format(schema=schema, role=role))
            done.add(attempt)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError):
            pass
        await transaction.rollback()
    await connection.close()
    assert done == allowed(role, schema)


@pytest.mark.parametrize("role", SERVICES)
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.intruder (id int)",
        "CREATE SCHEMA intruder",
        "CREATE TEMPORARY TABLE intruder (id int)",
        "CREATE ROLE intruder",
        "SET ROLE certwire_migrate",
        "SELECT rolpassword FROM pg_authid",
    ],
)
async def test_a_service_can_do_nothing_outside_its_schema(
    settings: Settings, role: str, statement: str
) -> None:
    connection = await asyncpg.connect(role_url(settings, role))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.close()


async def test_a_role_finds_its_own_tables_without_naming_the_schema(settings: Settings) -> None:
    connection = await asyncpg.connect(role_url(settings, "instance"))
    assert await connection.fetchval("SELECT 'outbox'::regclass::oid = 'instance.outbox'::regclass")
    await connection.close()


async def test_repeating_keeps_the_passwords_and_the_schema(
    postgres: PostgresServer, settings: Settings
) -> None:
    def files() -> dict[Path, str]:
        paths = (settings.secrets / f"postgres-{role}.password" for role in ROLES)
        return {path: path.read_text() for path in paths}

    before = files()
    await provision_postgres(postgres.superuser_url, settings.secrets, DATABASE)
    assert files() == before
    assert {path.stat().st_mode & 0o777 for path in before} == {0o600}
    assert not any((await migrate_all(settings)).values())


async def test_only_the_password_logs_in(settings: Settings) -> None:
    url = role_url(settings, "issuer").replace(settings.secret("postgres-issuer.password"), "guess")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url)
