"""The first administrator and the first user."""

import asyncio

import pytest

from services.registry.bootstrap import FirstSecrets, create_admin_and_superuser
from tests.support.registry import Crash, Tables, a_registry, initialised
from tests.support.servers import Place, PostgresServer

STATES = "SELECT state FROM registry.admin_certificate ORDER BY position"
CLAIMS = "SELECT state FROM registry.claim ORDER BY id"
ACTIONS = "SELECT entry::json->>'action' FROM registry.outbox ORDER BY position"


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


async def test_the_first_administrator_is_made_once(place: Place, tables: Tables) -> None:
    async with a_registry(place) as registry:
        made = await asyncio.gather(
            *(create_admin_and_superuser(registry, lambda _: None) for _ in range(3))
        )
        assert sorted(made) == [False, False, True]
        assert not await create_admin_and_superuser(registry, lambda _: None)
    assert await tables.values(STATES) == ["current"]
    assert await tables.values("SELECT username FROM registry.users") == ["superuser"]
    assert await tables.values(ACTIONS) == ["admin_create", "user_create"]


async def test_a_crash_while_the_secrets_are_handed_out_leaves_nobody(
    place: Place, tables: Tables
) -> None:
    def crash(_: FirstSecrets) -> None:
        raise Crash

    async with a_registry(place) as registry:
        with pytest.raises(Crash):
            await create_admin_and_superuser(registry, crash)
        assert await tables.values(STATES) == []
        assert await tables.values("SELECT count(*) FROM registry.users") == [0]
        assert await tables.values(ACTIONS) == []
        await initialised(registry)
    assert await tables.values(CLAIMS) == ["pending", "recorded"]
