"""Changing the key-encryption key: nothing is forgotten or lost, whoever writes meanwhile."""

import asyncio
import importlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.kek import KEK_COMMANDS, GetSealedValues, RetireKeys, RewrapValues
from contracts.subjects import Service
from services.acme import app as acme_app
from services.acme.app import open_acme
from services.acme.settings import AcmeSettings
from services.issuer.app import HANDLERS, open_issuer
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from services.issuer.store import key_pool
from services.issuer.store.sealed import POOL_KEY
from services.provisioning.parts import SEALING
from services.provisioning.postgres import SERVICES
from shared import rewrapping
from shared.sealed_columns import SealedColumn
from shared.secrets import Sealer, key_ids, new_key
from tests.support.public_rows import PublicRows
from tests.support.running import call
from tests.support.servers import Place, PostgresServer

ISSUER = KEK_COMMANDS[Service.ISSUER]
PUBLIC = {
    "acme.acme_order.csr",
    "instance.instance.wg_public_key",
    "issuer.ca.certificate",
    "issuer.ca.key_handle",
    "issuer.certificate.certificate",
    "issuer.ocsp_responder.certificate",
}
"""Columns of bytes that hold no secret; beside them, whole tables."""
PUBLIC_TABLES = {"retired_kek", "crl", "crl_segment"}
COLUMNS = """
SELECT table_schema || '.' || table_name || '.' || column_name AS place, table_name
FROM information_schema.columns WHERE data_type = 'bytea' AND table_schema = ANY($1::text[])
"""
TRIGGERS = """
SELECT format('%s.%s.%s', event_object_schema, event_object_table,
    substring(action_statement FROM '''(.*)'''))
FROM information_schema.triggers WHERE action_statement LIKE '%refuse_retired_kek%'
"""


def declared() -> list[SealedColumn]:
    """Return what the services' stores declare."""
    columns: list[SealedColumn] = []
    for service in SERVICES:
        with suppress(ModuleNotFoundError):
            columns += importlib.import_module(f"services.{service}.store.sealed").SEALED
    return columns


def place_of(column: SealedColumn) -> str:
    return f"{column.service}.{column.table}.{column.column}"


async def test_every_column_of_sealed_values_is_declared_and_guarded(
    postgres: PostgresServer, database_url: str
) -> None:
    url = postgres.superuser_url_of(database_url.rsplit("/", 1)[-1])
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(COLUMNS, list(map(str, SEALING)))
        guarded = {row[0] for row in await connection.fetch(TRIGGERS)}
    finally:
        await connection.close()
    known = {place_of(column) for column in declared()}
    secret = {row["place"] for row in rows if row["table_name"] not in PUBLIC_TABLES} - PUBLIC
    assert secret == known
    assert guarded == known
    assert {column.service for column in declared()} == set(KEK_COMMANDS)
    assert set(KEK_COMMANDS) <= set(SEALING)


# --- Two replicas, each with a secret of its own -----------------------------------------------


class Crash(Exception):  # noqa: N818 - not an error: the process is gone
    """The service ends here."""


class Replica:
    """An issuer, and the secret that it was given."""

    def __init__(self, issuer: Issuer, kek: Path) -> None:
        self.issuer, self.kek = issuer, kek

    def given(self, *lines: str) -> None:
        """Replace the secret, as an operator would."""
        partial = self.kek.with_suffix(".partial")
        partial.write_text("\n".join(lines))
        partial.replace(self.kek)

    async def do(self, command: GetSealedValues | RewrapValues | RetireKeys) -> Any:  # noqa: ANN401 - the reply
        return await HANDLERS[type(command)](command, self.issuer)

    async def store(self, *contents: bytes) -> None:
        """Store sealed values, as the service does."""
        async with self.issuer.runtime.database.transaction() as connection:
            for content in contents:
                key_id = await key_pool.next_id(connection)
                sealed = self.issuer.settings.sealer.seal(content, POOL_KEY.row(key_id))
                await key_pool.add(connection, key_id, "rsa2048", sealed)

    async def rows(self, sql: str) -> list[asyncpg.Record]:
        async with self.issuer.runtime.database.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql)
            return rows

    async def stored(self) -> list[bytes]:
        """Return what is stored, opened."""
        return [
            self.issuer.settings.sealer.open(row["sealed_key"], POOL_KEY.row(row["id"]))
            for row in await self.rows("SELECT id, sealed_key FROM key_pool ORDER BY id")
        ]

    async def counts(self) -> dict[str, int]:
        counts: dict[str, int] = (await self.do(ISSUER.get(call=call()))).counts
        return counts

    async def recorded(self) -> list[tuple[str, str, Any]]:
        """Return the audit records about keys."""
        rows = await self.rows("SELECT entry FROM outbox ORDER BY position")
        entries = [json.loads(row["entry"]) for row in rows]
        return [
            (entry["action"], entry["object"]["id"], entry["detail"].get("values"))
            for entry in entries
            if entry["object"]["type"] == "kek"
        ]


OLD, NEW = new_key(), new_key()
OLD_ID, NEW_ID = key_ids(f"{OLD} {NEW}")


async def a_replica(place: Place, directory: Path) -> Replica:
    shutil.copytree(place.home / "secrets", directory)
    settings = place.settings(IssuerSettings, CERTWIRE_SECRETS_DIR=directory)
    replica = Replica(await open_issuer(settings), directory / "kek")
    replica.given(OLD)
    return replica


@pytest.fixture
async def one(place: Place, tmp_path: Path) -> AsyncIterator[Replica]:
    replica = await a_replica(place, tmp_path / "one")
    yield replica
    await replica.issuer.runtime.close()


@pytest.fixture
async def other(place: Place, tmp_path: Path) -> AsyncIterator[Replica]:
    replica = await a_replica(place, tmp_path / "other")
    yield replica
    await replica.issuer.runtime.close()


def rewrap(values: int = 0, key_id: str = NEW_ID) -> RewrapValues:
    return ISSUER.rewrap(call=call(), key_id=key_id, values=values)


def retire(key_id: str = NEW_ID, *retired: str) -> RetireKeys:
    return ISSUER.retire(call=call(), key_id=key_id, retired=retired or (OLD_ID,))


CONTENTS = [b"value %d" % number for number in range(450)]


async def test_everything_comes_under_the_new_key_and_says_the_same(one: Replica) -> None:
    await one.store(*CONTENTS)
    assert await one.counts() == {OLD_ID: 450}
    one.given(NEW, OLD)
    reply = await one.do(rewrap())
    assert (reply.values, reply.left) == (450, 0)
    assert await one.counts() == {NEW_ID: 450}
    assert await one.stored() == CONTENTS
    await one.do(retire())
    one.given(NEW)
    assert await one.stored() == CONTENTS
    assert await one.recorded() == [
        ("kek_rotate", NEW_ID, 450),
        ("kek_rewrap", NEW_ID, 450),
        ("kek_retire", OLD_ID, None),
    ]


async def test_what_was_cut_off_is_gone_on_with(
    one: Replica, other: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.store(*CONTENTS)
    for replica in (one, other):
        replica.given(NEW, OLD)
    replace, calls = SealedColumn.replace, 0

    async def crash(*arguments: Any) -> int:  # noqa: ANN401 - those of `replace`
        nonlocal calls
        calls += 1
        done = await replace(*arguments)
        if calls == 2:
            raise Crash  # in the transaction of the second batch
        return done

    with monkeypatch.context() as patch:
        patch.setattr(SealedColumn, "replace", crash)
        with pytest.raises(Crash):
            await one.do(rewrap())
    assert await one.counts() == {NEW_ID: rewrapping.BATCH, OLD_ID: 450 - rewrapping.BATCH}
    assert await other.stored() == CONTENTS
    with pytest.raises(CertwireError) as refused:
        await other.do(retire())
    assert refused.value.code is ErrorCode.CONFLICT
    assert "250 values" in refused.value.detail
    again = await other.do(rewrap(200))
    assert (again.values, again.left) == (250, 0)
    assert await one.stored() == CONTENTS


async def test_replicas_rewrap_at_a_time_while_values_change(one: Replica, other: Replica) -> None:
    await one.store(*CONTENTS)
    for replica in (one, other):
        replica.given(NEW, OLD)

    taken = []

    async def take_and_store() -> None:
        for number in range(50):
            async with one.issuer.runtime.database.connection() as connection:
                found = await key_pool.take(connection, "rsa2048")
            assert found is not None
            taken.append(one.issuer.settings.sealer.open(found[1], POOL_KEY.row(found[0])))
            await other.store(b"new %d" % number)

    await asyncio.gather(take_and_store(), one.do(rewrap()), other.do(rewrap()), one.do(rewrap()))
    assert (await one.do(rewrap(1))).left == 0
    contents = [*taken, *await other.stored()]
    assert sorted(contents) == sorted([*CONTENTS, *(b"new %d" % number for number in range(50))])
    assert list(await one.counts()) == [NEW_ID]


async def test_what_a_replica_writes_that_was_not_told_is_found_or_refused(
    one: Replica, other: Replica
) -> None:
    one.given(NEW, OLD)
    await one.do(rewrap())
    await other.store(b"late")
    with pytest.raises(CertwireError, match="1 values are under it still"):
        await one.do(retire())
    assert (await one.do(rewrap())).values == 1
    await one.do(retire())
    with pytest.raises(asyncpg.PostgresError, match="retired key-encryption key"):
        await other.store(b"too late")
    one.given(NEW)
    assert await one.stored() == [b"late"]
    other.given(NEW)
    await other.store(b"told")
    assert await one.stored() == [b"late", b"told"]


async def test_retiring_waits_for_who_is_writing(one: Replica, other: Replica) -> None:
    one.given(NEW, OLD)
    connection = await other.issuer.runtime.database.dedicated()
    try:
        transaction = connection.transaction()
        await transaction.start()
        key_id = await key_pool.next_id(connection)
        sealed = other.issuer.settings.sealer.seal(b"in work", POOL_KEY.row(key_id))
        await key_pool.add(connection, key_id, "rsa2048", sealed)
        retiring = asyncio.create_task(one.do(retire()))
        await asyncio.sleep(0.3)
        assert not retiring.done()
        await transaction.commit()
        with pytest.raises(CertwireError, match="1 values"):
            await retiring
    finally:
        await connection.close()


async def test_the_wrong_order_is_refused(one: Replica) -> None:
    await one.store(b"value")
    with pytest.raises(CertwireError, match=f"seals with {OLD_ID}"):
        await one.do(rewrap())  # the service has not been given the new key
    one.given(OLD, NEW)
    with pytest.raises(CertwireError, match=f"seals with {OLD_ID}"):
        await one.do(retire())
    with pytest.raises(CertwireError, match="not to be retired"):
        await one.do(retire(OLD_ID, OLD_ID))
    one.given(NEW, OLD)
    with pytest.raises(CertwireError, match="1 values"):
        await one.do(retire())
    assert await one.stored() == [b"value"]


async def test_a_backup_without_its_key_names_the_key(one: Replica) -> None:
    await one.store(b"value")
    one.given(NEW)
    with pytest.raises(CertwireError, match=f"lacks the key {OLD_ID}"):
        await one.do(rewrap())
    one.given(NEW, OLD)
    assert await one.stored() == [b"value"]
    assert (await one.do(rewrap())).values == 1


async def test_a_value_stays_bound_to_its_row(one: Replica) -> None:
    sealed = Sealer.from_text(OLD).seal(b"value", "issuer.key_pool.sealed_key:7")
    async with one.issuer.runtime.database.connection() as connection:
        await key_pool.add(connection, 8, "rsa2048", sealed)
    one.given(NEW, OLD)
    with pytest.raises(CertwireError, match="does not belong here"):
        await one.do(rewrap())


# --- The acme service, which has the most columns ------------------------------------------------


async def test_every_column_of_the_acme_service_comes_under_the_new_key(
    place: Place, tmp_path: Path
) -> None:
    shutil.copytree(place.home / "secrets", tmp_path / "acme")
    kek = tmp_path / "acme" / "kek"
    kek.write_text(OLD)
    acme = await open_acme(place.settings(AcmeSettings, CERTWIRE_SECRETS_DIR=kek.parent))
    commands = KEK_COMMANDS[Service.ACME]
    names = ["shop", "blog"]

    async def do(command: GetSealedValues | RewrapValues | RetireKeys) -> Any:  # noqa: ANN401 - the reply
        return await acme_app.HANDLERS[type(command)](command, acme)

    try:
        async with acme.runtime.database.connection() as connection:
            rows = PublicRows(connection, acme.sealer)
            for name in names:
                await rows.everything(name)
            before = await rows.contents(Sealer.from_text(OLD))
            assert all(len(values) == len(names) for values in before.values())
            assert {place_of(column) for column in declared() if column.service == "acme"} == {
                f"acme.{place}" for place in before
            }
            kek.write_text(f"{NEW}\n{OLD}")
            reply = await do(commands.rewrap(call=call(), key_id=NEW_ID))
            assert (reply.values, reply.left) == (len(before) * len(names), 0)
            await do(commands.retire(call=call(), key_id=NEW_ID, retired=(OLD_ID,)))
            assert await rows.contents(Sealer.from_text(NEW)) == before
            late = PublicRows(connection, Sealer.from_text(OLD))
            with pytest.raises(asyncpg.PostgresError, match="retired key-encryption key"):
                await late.everything("late")
    finally:
        await acme.close()
        await acme.runtime.close()


def test_no_key_can_be_read_from_its_id() -> None:
    key = os.urandom(32)
    assert key.hex()[:16] not in OLD_ID
    assert len(OLD_ID) == 16
