"""The audit service's tables: what its role may do, and what nobody may."""

import asyncpg
import pytest

from contracts.audit import AuditRecord
from services.audit import store
from services.audit.domain.verification import Genuine, Head, Reason, Violation, examine
from shared.database import Database
from shared.settings import Settings
from tests.support.audit import Chain, altered, arrival
from tests.support.registry import Tables
from tests.support.servers import Place, PostgresServer


def records(chain: Chain, count: int) -> list[Genuine]:
    examined = [examine(each) for each in chain.take(count)]
    return [each for each in examined if isinstance(each, Genuine)]


async def test_records_are_kept_with_their_text_and_found_again(place: Place) -> None:
    chain = Chain()
    database = await Database.open(place.settings(Settings), "audit")
    async with database.connection() as connection:
        await store.keep(connection, records(chain, 2), 0)
        await store.keep(connection, records(chain, 1), 2)
        assert await store.heads(connection, ["issuer", "acme"]) == {"issuer": Head(3, chain.hash)}
        assert await store.last_position(connection) == 3
        wanted = [("issuer", 2), ("issuer", 9), ("acme", 1)]
        found = await store.hashes(connection, wanted)
        assert found == {("issuer", 2): chain.made[1]["hash"]}
        row = await connection.fetchrow("SELECT * FROM record WHERE sequence = 2")
        assert row is not None
        assert row["record"].encode() == arrival(chain.made[1]).payload
        assert (row["actor_id"], row["object_id"], row["organization_id"]) == ("7", "ab12", 3)
    await database.close()


async def test_the_longest_and_oddest_texts_fit(place: Place) -> None:
    odd = altered(Chain().next(), object={"type": "x\x00", "id": "é" * 100_000, "name": "\x00"})
    genuine = Genuine(arrival(odd), AuditRecord.model_validate(odd), "text")
    database = await Database.open(place.settings(Settings), "audit")
    async with database.connection() as connection:
        await store.keep(connection, [genuine], 0)
        row = await connection.fetchrow("SELECT object_type, object_id FROM record")
        assert row is not None
        assert row["object_type"] == "x\ufffd"
        assert row["object_id"] == "é" * store.INDEXED_CHARACTERS
    await database.close()


CHANGES = ["UPDATE {} SET service = 'x'", "DELETE FROM {}", "TRUNCATE {}"]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", ["record", "violation"])
async def test_nothing_kept_is_changed_by_the_service_or_the_owner(
    place: Place, postgres: PostgresServer, database_url: str, table: str, change: str
) -> None:
    database = await Database.open(place.settings(Settings), "audit")
    async with database.connection() as connection:
        await store.keep(connection, records(Chain(), 1), 0)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(change.format(table))
    await database.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only ever added to"):
        await Tables(postgres, database_url).run(change.format(f"audit.{table}"))


async def test_early_records_come_back_in_order(place: Place) -> None:
    chain = Chain()
    one, two, three, four = records(chain, 4)
    database = await Database.open(place.settings(Settings), "audit")
    async with database.connection() as connection:
        await store.keep(connection, [one], 0)
        await store.add_early(connection, [four, three])
        await store.add_early(connection, [three])
        (gap,) = (await store.gaps(connection)).items()
        assert gap[0] == "issuer"
        assert gap[1][:2] == (2, 2)
        assert await store.early(connection, "issuer", 2, 10) == [three.arrival, four.arrival]
        assert await store.early(connection, "issuer", 1, 1) == [three.arrival]
        await store.forget_early(connection, "issuer", 3)
        assert await store.early(connection, "issuer", 1, 10) == [four.arrival]
        assert two.place == ("issuer", 2)
    await database.close()


async def test_a_violation_is_quarantined_once(place: Place) -> None:
    message = arrival(Chain().next())
    violation = Violation(message, Reason.WRONG_LINK, "issuer", 1)
    database = await Database.open(place.settings(Settings), "audit")
    async with database.connection() as connection:
        assert await store.violations(connection) is None
        assert await store.add_violation(connection, violation)
        assert not await store.add_violation(connection, violation)
        counted = await store.violations(connection)
        assert counted is not None
        assert counted[0] == 1
        assert counted[1]["reason"] == "wrong_link"
        payload = await connection.fetchval("SELECT payload FROM violation")
        assert payload == message.payload
    await database.close()
