"""`Idempotency-Key`: one effect, one answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from contracts.errors import ErrorCode
from contracts.messages import Call, Command, IdempotencyKey, Message
from contracts.subjects import Service, command
from shared.database import SESSION, Connection, Database
from shared.idempotency import ANSWER_SECONDS, KEPT_HOURS, PRUNE, AnsweredBefore
from shared.outbox import Backlog
from shared.settings import Settings
from shared.unit_of_work import unit_of_work
from tests.support.outcomes import refused
from tests.support.servers import Place

PUT = "INSERT INTO inbox (source, message_id) VALUES ('test', gen_random_uuid()::text)"


class Answer(Message):
    text: str


class Ask(Command[Answer]):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "test", "ask")
    ACTION: ClassVar[str | None] = "test_ask"
    REPLY: ClassVar[type[Message]] = Answer


def ask(request: str = "a", *, key: str = "key", scope: str = "c", seconds: float = 10) -> Ask:
    idempotency = IdempotencyKey(scope=scope * 64, key=key, request=request * 64)
    return Ask(call=Call(request_id="r", deadline=time.time() + seconds, idempotency=idempotency))


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    database = await Database.open(place.settings(Settings), "issuer")
    yield database
    await database.close()


async def work(
    database: Database,
    asked: Ask,
    text: str = "first",
    *,
    secret: bool = False,
    error: Exception | None = None,
    seconds: float = 0,
) -> str:
    """Take effect once and answer; return the answer's text, whoever gave it."""
    try:
        async with unit_of_work(Service.ISSUER, database, Backlog(1), asked) as unit:
            await unit.connection.execute(PUT)
            await asyncio.sleep(seconds)
            if error is not None:
                raise error
            return (await unit.answer(Answer(text=text), secret=secret)).text
    except AnsweredBefore as earlier:
        return Answer.model_validate_json(earlier.reply).text


async def effects(database: Database) -> int:
    async with database.connection() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM inbox"))


async def age(connection: Connection, hours: float) -> None:
    await connection.execute(
        "UPDATE idempotency SET created_at = created_at - make_interval(secs => $1)", hours * 3600
    )


async def test_the_same_request_gets_the_first_answer(database: Database) -> None:
    assert await work(database, ask(), "first") == "first"
    assert await work(database, ask(), "second") == "first"
    assert await effects(database) == 1


async def test_another_request_under_the_same_key_is_refused(database: Database) -> None:
    await work(database, ask("a"))
    with refused(ErrorCode.IDEMPOTENCY_KEY_REUSED):
        await work(database, ask("b"))
    assert await effects(database) == 1


async def test_keys_of_two_callers_are_two_keys(database: Database) -> None:
    assert await work(database, ask(scope="c"), "one") == "one"
    assert await work(database, ask("b", scope="d"), "other") == "other"


async def test_concurrent_duplicates_wait_for_the_first(database: Database) -> None:
    answers = await asyncio.gather(
        *(work(database, ask(), f"{number}", seconds=0.2) for number in range(6))
    )
    assert len(set(answers)) == 1
    assert await effects(database) == 1


async def test_one_that_waited_past_its_deadline_hears_that_the_first_is_at_work(
    database: Database,
) -> None:
    first = asyncio.create_task(work(database, ask(), seconds=1.5))
    await asyncio.sleep(0.3)
    asked = ask(seconds=0.2 + ANSWER_SECONDS)
    with refused(ErrorCode.IDEMPOTENCY_IN_PROGRESS):
        await work(database, asked)
    assert time.time() < asked.call.deadline  # or nobody hears it
    assert await first == "first"
    assert await work(database, ask()) == "first"


async def test_waiting_for_longer_than_postgres_waits_for_a_lock_is_no_failure(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SESSION, "lock_timeout", "100ms")
    database = await Database.open(place.settings(Settings), "issuer")
    first = asyncio.create_task(work(database, ask(), seconds=1))
    await asyncio.sleep(0.3)
    with refused(ErrorCode.IDEMPOTENCY_IN_PROGRESS):
        await work(database, ask(seconds=30))
    assert await first == "first"
    await database.close()


async def test_a_duplicate_of_one_that_fails_takes_its_place(database: Database) -> None:
    failing = asyncio.create_task(work(database, ask(), error=RuntimeError("crash"), seconds=0.3))
    await asyncio.sleep(0.1)
    assert await work(database, ask(), "second") == "second"
    with pytest.raises(RuntimeError):
        await failing
    assert await effects(database) == 1


async def test_a_failure_is_not_kept(database: Database) -> None:
    with pytest.raises(RuntimeError):
        await work(database, ask("a"), error=RuntimeError("crash"))
    assert await work(database, ask("b"), "other") == "other"


async def test_an_answer_with_a_secret_is_not_kept_but_its_effect_is_known(
    database: Database,
) -> None:
    assert await work(database, ask(), "hunter2", secret=True) == "hunter2"
    with refused(ErrorCode.IDEMPOTENCY_SECRET_SHOWN):
        await work(database, ask())
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT * FROM idempotency")
    assert "hunter2" not in repr(rows)
    assert await effects(database) == 1


@pytest.mark.parametrize(
    ("hours", "answer"), [(KEPT_HOURS - 0.1, "first"), (KEPT_HOURS + 0.1, "second")]
)
async def test_a_key_is_free_again_after_24_hours(
    database: Database, hours: float, answer: str
) -> None:
    await work(database, ask(), "first")
    async with database.transaction() as connection:
        await age(connection, hours)
    assert await work(database, ask(), "second") == answer


async def test_a_key_that_is_free_again_may_carry_another_request(database: Database) -> None:
    await work(database, ask("a"), "first", secret=True)
    async with database.transaction() as connection:
        await age(connection, KEPT_HOURS + 1)
    answers = await asyncio.gather(*(work(database, ask("b"), "second") for _ in range(4)))
    assert answers == ["second"] * 4
    assert await effects(database) == 2


async def test_old_answers_are_forgotten(database: Database) -> None:
    await work(database, ask(key="old"))
    async with database.transaction() as connection:
        await age(connection, KEPT_HOURS + 1)
    await work(database, ask(key="new"))
    async with database.transaction() as connection:
        await connection.execute(PRUNE, KEPT_HOURS)
        assert [row["key"] for row in await connection.fetch("SELECT key FROM idempotency")] == [
            "new"
        ]


async def test_a_request_without_a_key_takes_effect_every_time(database: Database) -> None:
    asked = Ask(call=Call(request_id="r", deadline=time.time() + 5))
    assert [await work(database, asked, text) for text in ("a", "b")] == ["a", "b"]


async def test_a_handler_that_forgets_to_answer_changes_nothing(database: Database) -> None:
    async def forget() -> None:
        async with unit_of_work(Service.ISSUER, database, Backlog(1), ask()) as unit:
            await unit.connection.execute(PUT)

    with pytest.raises(RuntimeError, match="Ask was not answered"):
        await forget()
    assert await effects(database) == 0
