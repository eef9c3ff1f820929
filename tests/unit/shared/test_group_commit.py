"""Many waiting changes in one statement: each gets its own result, and nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from contracts.errors import CertwireError, ErrorCode
from shared.database import Connection, Database
from shared.group_commit import CYCLES, MOST_IN_ONE_COMMIT, GroupCommit
from shared.settings import Settings
from tests.support.outcomes import refused
from tests.support.servers import Place, PostgresServer

PUT_ALL = """
INSERT INTO inbox (source, message_id) SELECT 'test', * FROM unnest($1::text[])
RETURNING message_id
"""


class Ledger:
    """Puts names down, many in one statement; the sizes of the groups are kept."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.groups: list[int] = []
        self.commit = GroupCommit("test.put", database, self.put)

    async def put(self, connection: Connection, names: Sequence[str]) -> list[str]:
        self.groups.append(len(names))
        if any(name.startswith("slow") for name in names):
            await connection.execute("SELECT pg_sleep(0.3)")
        rows = await connection.fetch(PUT_ALL, list(names))
        return [f"put {row['message_id']}" for row in rows]

    async def names(self) -> set[str]:
        async with self.database.connection() as connection:
            return {row[0] for row in await connection.fetch("SELECT message_id FROM inbox")}


@pytest.fixture
async def ledger(place: Place) -> AsyncIterator[Ledger]:
    database = await Database.open(place.settings(Settings), "issuer")
    yield Ledger(database)
    await database.close()


async def test_each_waiter_gets_its_own_result(ledger: Ledger) -> None:
    names = [f"{number}" for number in range(300)]
    results = await asyncio.gather(*(ledger.commit.submit(name) for name in names))
    assert results == [f"put {name}" for name in names]
    assert await ledger.names() == set(names)


async def test_one_alone_does_not_wait_for_others(ledger: Ledger) -> None:
    assert await ledger.commit.submit("only") == "put only"
    assert ledger.groups == [1]


async def test_what_waits_together_is_committed_together(ledger: Ledger) -> None:
    await asyncio.gather(*(ledger.commit.submit(f"{number}") for number in range(100)))
    assert max(ledger.groups) == MOST_IN_ONE_COMMIT
    assert len(ledger.groups) <= CYCLES + 100 // MOST_IN_ONE_COMMIT + 1


async def test_one_that_fails_does_not_spoil_the_others(ledger: Ledger) -> None:
    await ledger.commit.submit("taken")
    names = ["a", "taken", "b", "c\0d", "e"]
    outcomes = await asyncio.gather(
        *(ledger.commit.submit(name) for name in ["x", "y", *names]), return_exceptions=True
    )
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == [
        "put x", "put y", "put a", "put b", "put e"
    ]  # fmt: skip
    duplicate, unstorable = (outcome for outcome in outcomes if isinstance(outcome, Exception))
    assert isinstance(duplicate, asyncpg.UniqueViolationError)
    assert isinstance(unstorable, CertwireError)
    assert unstorable.code is ErrorCode.INVALID_REQUEST
    assert await ledger.names() == {"taken", "x", "y", "a", "b", "e"}


async def begun(ledger: Ledger, name: str) -> "asyncio.Task[str]":
    """Submit a name that is in work, alone, by now."""
    before = len(ledger.groups)
    task = asyncio.create_task(ledger.commit.submit(name))
    async with asyncio.timeout(10):
        while len(ledger.groups) == before:
            await asyncio.sleep(0.01)
    return task


async def test_a_waiter_that_gives_up_disturbs_nobody(ledger: Ledger) -> None:
    slow, other = [await begun(ledger, name) for name in ("slow", "slow too")]
    given_up = asyncio.create_task(ledger.commit.submit("given up"))
    waiting = asyncio.create_task(ledger.commit.submit("waiting"))
    await asyncio.sleep(0)
    slow.cancel()
    given_up.cancel()
    assert await other == "put slow too"
    assert await waiting == "put waiting"
    for task in (slow, given_up):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert {"slow", "slow too", "waiting"} <= await ledger.names()


async def test_a_lost_server_is_told_to_every_waiter(
    ledger: Ledger, postgres: PostgresServer
) -> None:
    await ledger.commit.submit("before")
    try:
        postgres.stop()
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(
                *(ledger.commit.submit(f"{number}") for number in range(100)),
                return_exceptions=True,
            )
    finally:
        postgres.start()
    codes = {outcome.code for outcome in outcomes if isinstance(outcome, CertwireError)}
    assert len(outcomes) == 100
    assert codes <= {ErrorCode.UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN}
    assert await ledger.commit.submit("after") == "put after"
    assert await ledger.names() == {"before", "after"}


async def test_a_server_lost_in_the_middle_leaves_the_outcome_unknown(
    ledger: Ledger, postgres: PostgresServer
) -> None:
    waiters = [asyncio.create_task(ledger.commit.submit(name)) for name in ("slow", "with it")]
    await asyncio.sleep(0.15)
    try:
        postgres.stop()
        for waiter in waiters:
            with refused(ErrorCode.OUTCOME_UNKNOWN):
                await waiter
    finally:
        postgres.start()


async def test_after_a_deadlock_each_is_tried_alone(ledger: Ledger) -> None:
    refusals = [asyncpg.DeadlockDetectedError("lost"), asyncpg.LockNotAvailableError("waited")]
    put = ledger.put

    async def unlucky(connection: Connection, names: Sequence[str]) -> list[str]:
        if len(names) > 1 and refusals:
            raise refusals.pop()
        return await put(connection, names)

    commit = GroupCommit("test.unlucky", ledger.database, unlucky)
    names = [f"{number}" for number in range(12)]
    assert await asyncio.gather(*(commit.submit(name) for name in names)) == [
        f"put {name}" for name in names
    ]


async def test_nothing_is_left_waiting_between_two_cycles(ledger: Ledger) -> None:
    """Submit again in the very moment in which a cycle ends."""

    async def apply(_connection: Connection, names: Sequence[int]) -> Sequence[int]:
        return names

    commit = GroupCommit("test.again", ledger.database, apply)

    async def submit(first: int) -> int:
        async with asyncio.timeout(20):
            for number in range(first, first + 200):
                assert await commit.submit(number) == number
        return first

    assert await asyncio.gather(*(submit(first) for first in (0, 1000, 2000))) == [0, 1000, 2000]


async def test_results_that_do_not_match_the_items_are_a_mistake_of_ours(ledger: Ledger) -> None:
    async def apply(_connection: Connection, names: Sequence[str]) -> Sequence[str]:
        return names[1:]

    with pytest.raises(ValueError, match="zip"):
        await GroupCommit("test.wrong", ledger.database, apply).submit("a")
