"""What the database itself holds together."""

import asyncio
from dataclasses import replace
from datetime import datetime

import asyncpg
import pytest

from services.issuer.domain.profiles import INSTANCE
from services.issuer.keys import KeyAlgorithm
from services.issuer.service import Issuer
from services.issuer.signing import Order, issue
from services.issuer.store import revoked, signed
from services.issuer.store.signed import Issuance
from shared.identifiers import uuid7
from shared.x509 import public_key_der
from tests.support.running import call
from tests.unit.services.issuer.builders import ACTOR, LEAVES, key_of
from tests.unit.services.issuer.conftest import Records


def issuance(issuer: Issuer) -> Issuance:
    """Return a certificate that is signed and not recorded."""
    key = public_key_der(key_of(KeyAlgorithm.P256).public_key())
    ca, authority = issuer.authorities.signing()
    return issue(ca.id, authority, Order(INSTANCE, LEAVES[INSTANCE], uuid7(), ACTOR, call()), key)


async def test_a_serial_is_unique_for_its_issuer(issuer: Issuer) -> None:
    first, second = issuance(issuer), issuance(issuer)
    serial = first.certificate.serial_hex
    second = replace(second, certificate=replace(second.certificate, serial_hex=serial))
    async with issuer.runtime.database.connection() as connection:
        assert await signed.issue(connection, [first]) != [None]
        with pytest.raises(asyncpg.UniqueViolationError):
            await signed.issue(connection, [second])
        assert await signed.claimed(connection, second.claim_id) is None


async def test_one_that_fails_does_not_spoil_the_others(issuer: Issuer, records: Records) -> None:
    items = [issuance(issuer) for _ in range(10)]
    wrong = replace(
        items[5],
        certificate=replace(items[5].certificate, serial_hex=items[0].certificate.serial_hex),
    )
    items[5] = wrong
    ends = await asyncio.gather(*map(issuer.issuance.submit, items), return_exceptions=True)
    assert [end for end in ends if not isinstance(end, datetime)] == [ends[5]]
    assert isinstance(ends[5], asyncpg.UniqueViolationError)
    assert len(await records.certificates()) == 9


async def test_of_two_under_one_claim_in_one_statement_one_is_recorded(
    issuer: Issuer, records: Records
) -> None:
    first = issuance(issuer)
    second = replace(issuance(issuer), claim_id=first.claim_id)
    async with issuer.runtime.database.connection() as connection:
        assert (await signed.issue(connection, [first, second])).count(None) == 1
    assert len(await records.certificates()) == len(await records.outbox()) == 1


async def test_the_claims_of_the_hot_path_are_found_by_their_indexes(issuer: Issuer) -> None:
    async with issuer.runtime.database.connection() as connection:
        await connection.execute("SET enable_seqscan = off")
        for sql, argument in (
            (signed._SIGNED_BEFORE, uuid7()),
            (revoked._LOCK, ["0" * 64]),
        ):
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", argument))
            assert "Seq Scan on claim" not in plan
            assert "Seq Scan on certificate" not in plan
        await connection.execute("RESET enable_seqscan")
