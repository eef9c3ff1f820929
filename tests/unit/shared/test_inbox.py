"""The inbox: a second delivery finds the first one's answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared import inbox
from shared.database import Database
from shared.settings import Settings
from tests.support.servers import Place


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    database = await Database.open(place.settings(Settings), "instance")
    yield database
    await database.close()


async def deliver(database: Database, source: str, message_id: str, reply: str) -> str | None:
    """Take a message; return what was answered before, or None where it takes effect now."""
    async with database.transaction() as connection:
        if (earlier := await inbox.seen(connection, source, message_id)) is not None:
            return earlier
        await asyncio.sleep(0.1)
        await inbox.keep(connection, source, message_id, reply)
        return None


async def test_a_second_delivery_gets_the_first_answer(database: Database) -> None:
    assert await deliver(database, "orchestrator", "1", "one") is None
    assert await deliver(database, "orchestrator", "1", "two") == "one"


async def test_two_sources_may_use_the_same_id(database: Database) -> None:
    assert await deliver(database, "a", "1", "one") is None
    assert await deliver(database, "b", "1", "two") is None


async def test_of_many_at_once_one_takes_effect(database: Database) -> None:
    answers = await asyncio.gather(*(deliver(database, "a", "1", f"{n}") for n in range(5)))
    assert answers.count(None) == 1
    assert len(set(answers)) == 2


async def test_one_that_failed_was_not_seen(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            assert await inbox.seen(connection, "a", "1") is None
            raise ValueError("crash")

    with pytest.raises(ValueError, match="crash"):
        await fail()
    assert await deliver(database, "a", "1", "one") is None


async def test_one_without_an_answer_was_seen_all_the_same(database: Database) -> None:
    async with database.transaction() as connection:
        assert await inbox.seen(connection, "a", "1") is None
    assert await deliver(database, "a", "1", "one") == ""


async def test_only_what_cannot_come_again_is_forgotten(database: Database) -> None:
    for message_id in ("old", "new"):
        await deliver(database, "a", message_id, message_id)
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE inbox SET created_at = now() - make_interval(days => $1)"
            " WHERE message_id = 'old'",
            inbox.KEPT_DAYS + 1,
        )
        await connection.execute(inbox.PRUNE, inbox.KEPT_DAYS)
    assert await deliver(database, "a", "old", "again") is None
    assert await deliver(database, "a", "new", "again") == "new"
