"""Queries that have to be exact, or quick."""

import asyncio

import pytest

from contracts.principal import Credential, CredentialKind
from services.registry.domain.renewal import OVERLAP
from services.registry.store import credentials, enrollment_tokens, sessions
from services.registry.store.sessions import Limits
from shared.database import Database
from shared.settings import Settings
from tests.support.registry import Tables
from tests.support.servers import Place, PostgresServer

LIMITS = Limits(of_user=5, of_address=20)
SHIFT = "UPDATE registry.login_window SET times = ARRAY(SELECT t - {} FROM unnest(times) t)"


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


async def admit(database: Database, address: str, username: str) -> bool:
    async with database.statement() as connection:
        return await sessions.admit_login(connection, address, username, LIMITS)


async def wait_seconds(database: Database, address: str, username: str) -> int:
    async with database.connection() as connection:
        return await sessions.login_wait_seconds(connection, address, username, LIMITS)


async def test_the_login_limits_hold_in_any_minute(place: Place, tables: Tables) -> None:
    database = await Database.open(place.settings(Settings), "registry")
    try:
        many = await asyncio.gather(*(admit(database, "a", "ada") for _ in range(20)))
        assert many.count(True) == 5
        assert await admit(database, "b", "ada")
        many = await asyncio.gather(*(admit(database, "a", f"u{n}") for n in range(40)))
        assert many.count(True) == 15
        assert not await admit(database, "a", "somebody else")
        assert 58 <= await wait_seconds(database, "a", "ada") <= 60
        await tables.run(SHIFT.format("interval '59 s'"))
        assert not await admit(database, "a", "ada")
        assert await wait_seconds(database, "a", "ada") <= 1
        await tables.run(SHIFT.format("interval '2 s'"))
        assert await admit(database, "a", "ada")
        windows = "SELECT cardinality(times) FROM registry.login_window WHERE address = 'a'"
        assert await tables.values(windows) == [1]
    finally:
        await database.close()


async def test_what_is_over_is_forgotten(place: Place, tables: Tables) -> None:
    database = await Database.open(place.settings(Settings), "registry")
    try:
        assert await admit(database, "a", "ada")
        await tables.run("UPDATE registry.login_window SET last_at = last_at - interval '61 s'")
        assert await admit(database, "b", "ada")
        async with database.transaction() as connection:
            await sessions.prune(connection)
        assert await tables.values("SELECT address FROM registry.login_window") == ["b"]
    finally:
        await database.close()


async def test_tokens_and_attempts_that_ended_are_forgotten(place: Place, tables: Tables) -> None:
    await tables.run(
        "INSERT INTO registry.enrollment_token"
        " (hash, label, capabilities, allowed_sites, expires_at, state) VALUES"
        " ('a', 'a', '{}', '{}', now() - interval '31 d', 'consumed'),"
        " ('b', 'b', '{}', '{}', now() - interval '29 d', 'expired'),"
        " ('c', 'c', '{}', '{}', now() + interval '1 min', 'pending')"
    )
    await tables.run(
        "INSERT INTO registry.enrollment_attempt VALUES"
        " ('a', now() - interval '61 s', 1), ('b', now() - interval '50 s', 1)"
    )
    database = await Database.open(place.settings(Settings), "registry")
    try:
        async with database.transaction() as connection:
            await enrollment_tokens.prune(connection)
    finally:
        await database.close()
    tokens = "SELECT hash FROM registry.enrollment_token ORDER BY hash"
    assert await tables.values(tokens) == ["b", "c"]
    assert await tables.values("SELECT address FROM registry.enrollment_attempt") == ["b"]


async def test_a_credential_is_found_by_index_among_many(place: Place, tables: Tables) -> None:
    await tables.run(
        "WITH u AS (INSERT INTO registry.users (username, email, password_hash, role)"
        " VALUES ('u', 'e', 'h', 'user') RETURNING id)"
        " INSERT INTO registry.session (access_hash, refresh_hash, family, user_id,"
        " access_expires_at, refresh_expires_at) SELECT encode(sha256(n::text::bytea), 'hex'),"
        " n::text, gen_random_uuid(), u.id, now() + interval '1 h', now()"
        " FROM u, generate_series(1, 20000) AS n"
    )
    await tables.run(
        "INSERT INTO registry.api_key (hash, name, projects, keys)"
        " SELECT encode(sha256(n::text::bytea), 'hex'), n::text, 'read', 'none'"
        " FROM generate_series(20001, 40000) AS n"
    )
    await tables.run("ANALYZE registry.session, registry.api_key")
    database = await Database.open(place.settings(Settings), "registry")
    asked = Credential(kind=CredentialKind.BEARER, sha256="0" * 64)
    try:
        async with database.connection() as connection:
            assert await credentials.resolve(connection, [asked]) == [credentials.UNKNOWN]
            plan = await connection.fetch(
                f"EXPLAIN {credentials.RESOLVE}", [asked.kind], [asked.sha256], OVERLAP
            )
    finally:
        await database.close()
    for table in ("session", "api_key"):
        assert not any(f"Seq Scan on {table}" in line[0] for line in plan), plan
