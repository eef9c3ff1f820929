"""CRLs: what is on them and when, whoever makes them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from contracts.certificates import RevocationReason
from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import Revocation, RevokeInstanceCertificates
from services.issuer import crl
from services.issuer.app import open_issuer
from services.issuer.handlers.platform import (
    revoke_instance_certificates,
    sign_instance_certificate,
)
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from services.issuer.store import cas, crls
from services.issuer.store.cas import Ca
from shared.clock import utc_now
from tests.support.csr import csr_pem
from tests.support.running import call
from tests.unit.services.issuer.builders import ACTOR, order
from tests.unit.services.issuer.conftest import Records


@pytest.fixture
async def other(settings: IssuerSettings, issuer: Issuer) -> AsyncIterator[Issuer]:
    """Another replica."""
    del issuer
    replica = await open_issuer(settings)
    await replica.authorities.load()
    yield replica
    await replica.runtime.close()


async def issuing(issuer: Issuer) -> Ca:
    ca, _ = issuer.authorities.signing()
    return ca


async def revoke(
    issuer: Issuer, count: int = 1, reason: RevocationReason = RevocationReason.SUPERSEDED
) -> set[int]:
    """Sign certificates and revoke them; return their serials."""
    csr = csr_pem()
    signed = await asyncio.gather(
        *(sign_instance_certificate(order(csr=csr), issuer) for _ in range(count))
    )
    await revoke_instance_certificates(
        RevokeInstanceCertificates(
            call=call(),
            revocations=tuple(
                Revocation(
                    fingerprint=each.fingerprint,
                    reason=reason,
                    revoked_at=utc_now(),
                    actor=ACTOR,
                    request_id="r",
                )
                for each in signed
            ),
        ),
        issuer,
    )
    return {int(each.serial_hex, 16) for each in signed}


async def crl_of(issuer: Issuer, ca: Ca) -> x509.CertificateRevocationList:
    """Return the last CRL, after checking what holds for all."""
    held = await issuer.crls.current(ca)
    assert held is not None
    assert len(held.der) == held.row.size
    parsed = x509.load_der_x509_crl(held.der)
    key = x509.load_der_x509_certificate(ca.certificate).public_key()
    assert parsed.is_signature_valid(key)  # type: ignore[arg-type]  # a CA's key signs
    assert len(parsed) == held.row.entries
    return parsed


def number_of(parsed: x509.CertificateRevocationList) -> int:
    return parsed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def serials(parsed: x509.CertificateRevocationList) -> list[int]:
    return [entry.serial_number for entry in parsed]


async def half_a_day_passes(records: Records) -> None:
    await records.rows("UPDATE crl SET remake_at = remake_at - interval '13 hours'")


# --- What is on it -------------------------------------------------------------------------------


async def test_is_empty_at_first_and_made_when_it_is_asked_for(issuer: Issuer) -> None:
    ca = await issuing(issuer)
    first = await crl_of(issuer, ca)
    assert (number_of(first), serials(first)) == (1, [])
    assert first.issuer == x509.load_der_x509_certificate(ca.certificate).subject
    assert first.next_update_utc is not None
    assert first.next_update_utc - first.last_update_utc == timedelta(hours=24)
    identifier = first.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = x509.load_der_x509_certificate(ca.certificate).extensions
    assert (
        identifier.key_identifier
        == own.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )
    assert number_of(await crl_of(issuer, ca)) == 1


async def test_lists_what_was_revoked_with_time_and_reason(
    issuer: Issuer, records: Records
) -> None:
    ca = await issuing(issuer)
    await crl_of(issuer, ca)
    (serial,) = await revoke(issuer, reason=RevocationReason.KEY_COMPROMISE)
    (other,) = await revoke(issuer, reason=RevocationReason.UNSPECIFIED)
    await issuer.crls.make(ca.id)
    parsed = await crl_of(issuer, ca)
    assert number_of(parsed) == 2
    entry = parsed.get_revoked_certificate_by_serial_number(serial)
    assert entry is not None
    assert utc_now() - entry.revocation_date_utc < timedelta(seconds=10)
    (reason,) = [extension.value for extension in entry.extensions]
    assert reason == x509.CRLReason(x509.ReasonFlags.key_compromise)
    plain = parsed.get_revoked_certificate_by_serial_number(other)
    assert plain is not None
    assert not list(plain.extensions)
    events = [event for _, event in await records.outbox("crl_publish")]
    assert [(event["ca"], event["number"], event["entries"]) for event in events] == [
        (ca.slug, 1, 0),
        (ca.slug, 2, 2),
    ]


async def test_grows_over_many_segments(
    issuer: Issuer, other: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crl, "SEGMENT_ENTRIES", 4)
    ca, revoked = await issuing(issuer), set()
    for round_, count in enumerate((1, 3, 1, 7, 2, 4)):
        revoked |= await revoke(issuer, count)
        await (issuer, other)[round_ % 2].crls.make(ca.id)
        for replica in (issuer, other):
            assert set(serials(await crl_of(replica, ca))) == revoked
    async with issuer.runtime.database.connection() as connection:
        assert [len(ends) for ends in await crls.ends(connection, ca.id)] == [4, 4, 4, 4, 2]


async def test_nothing_new_makes_no_new_one(issuer: Issuer, records: Records) -> None:
    ca = await issuing(issuer)
    for _ in range(3):
        await issuer.crls.make(ca.id)
    assert len(await records.outbox("crl_publish")) == 1


# --- Made again ----------------------------------------------------------------------------------


async def test_is_made_again_when_its_time_has_come(issuer: Issuer, records: Records) -> None:
    ca = await issuing(issuer)
    before = await crl_of(issuer, ca)
    async with issuer.runtime.database.connection() as connection:
        assert await crls.due(connection, 0) == []
        await half_a_day_passes(records)
        assert await crls.due(connection, 0) == [ca.id]
    await issuer.crls.make(ca.id)
    after = await crl_of(issuer, ca)
    assert number_of(after) == number_of(before) + 1
    async with issuer.runtime.database.connection() as connection:
        assert await crls.due(connection, 0) == []


async def test_expired_certificates_leave_after_one_more_list(
    issuer: Issuer, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 5280 section 3.3."""
    monkeypatch.setattr(crl, "SEGMENT_ENTRIES", 2)
    ca = await issuing(issuer)
    ended, lasting = await revoke(issuer, 3), await revoke(issuer, 2)
    await records.rows(
        "UPDATE crl_waiting SET not_after = now() - interval '1 minute' WHERE serial_hex = ANY($1)",
        [f"{serial:x}" for serial in ended],
    )
    await issuer.crls.make(ca.id)
    assert set(serials(await crl_of(issuer, ca))) == ended | lasting, "one list past their end"
    await half_a_day_passes(records)
    new = await revoke(issuer)
    await issuer.crls.make(ca.id)
    assert set(serials(await crl_of(issuer, ca))) == lasting | new
    async with issuer.runtime.database.connection() as connection:
        assert [len(ends) for ends in await crls.ends(connection, ca.id)] == [2, 1]


async def test_an_expired_one_stays_until_the_list_is_gone_through(
    issuer: Issuer, records: Records
) -> None:
    ca = await issuing(issuer)
    ended = await revoke(issuer)
    await records.rows("UPDATE crl_waiting SET not_after = now() - interval '1 minute'")
    await issuer.crls.make(ca.id)
    new = await revoke(issuer)
    await issuer.crls.make(ca.id)
    assert set(serials(await crl_of(issuer, ca))) == ended | new


async def test_a_ca_that_ended_stops(issuer: Issuer, records: Records) -> None:
    ca = await issuing(issuer)
    await crl_of(issuer, ca)
    await revoke(issuer)
    await half_a_day_passes(records)
    async with issuer.runtime.database.connection() as connection:
        assert await crls.due(connection, 0) == [ca.id]
        await records.rows("UPDATE ca SET not_after = now() WHERE id = $1", ca.id)
        assert await crls.due(connection, 0) == await crls.without(connection) == []
    await records.rows("DELETE FROM crl")
    assert await issuer.crls.current(replace(ca, not_after=utc_now())) is None


@pytest.mark.parametrize("state", ["retired", "deleted"])
async def test_a_ca_that_is_out_of_use_goes_on(
    issuer: Issuer, records: Records, state: str
) -> None:
    ca = await issuing(issuer)
    revoked = await revoke(issuer)
    await records.rows("UPDATE ca SET state = $1 WHERE id = $2", state, ca.id)
    async with issuer.runtime.database.connection() as connection:
        assert await crls.due(connection, 0) == [ca.id]
    await issuer.crls.make(ca.id)
    assert set(serials(await crl_of(issuer, ca))) == revoked


# --- Whoever makes it ----------------------------------------------------------------------------


async def test_many_at_once_make_one(issuer: Issuer, other: Issuer, records: Records) -> None:
    ca = await issuing(issuer)
    await crl_of(issuer, ca)
    revoked = await revoke(issuer, 20)
    await asyncio.gather(
        *(replica.crls.make(ca.id) for replica in (issuer, other) for _ in range(4))
    )
    assert set(serials(await crl_of(other, ca))) == revoked
    assert len(await records.outbox("crl_publish")) == 2


async def test_within_a_second_and_nothing_is_missed_or_doubled(
    issuer: Issuer, other: Issuer, records: Records
) -> None:
    ca = await issuing(issuer)
    await crl_of(issuer, ca)
    tasks = [asyncio.create_task(each.crls.keep_up()) for each in (issuer, other)]
    revoked: set[int] = set()
    try:
        for _ in range(12):
            revoked |= await revoke(issuer, 5)
            await asyncio.sleep(0.05)
        done = utc_now()
        while set(serials(await crl_of(other, ca))) != revoked:
            assert utc_now() - done < timedelta(seconds=5)
            await asyncio.sleep(0.02)
        assert utc_now() - done < timedelta(seconds=1.5), "1 s, and what a busy machine needs"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    listed = serials(await crl_of(issuer, ca))
    assert len(listed) == len(set(listed)) == 60
    numbers = [event["number"] for _, event in await records.outbox("crl_publish")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) < 8, "revocations that come together share a list"


async def test_what_one_replica_rolls_back_the_next_one_lists(
    issuer: Issuer, other: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = await issuing(issuer)
    revoked = await revoke(issuer)

    async def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(crls, "put", crash)
        with pytest.raises(KeyboardInterrupt):
            await issuer.crls.make(ca.id)
    await other.crls.make(ca.id)
    assert set(serials(await crl_of(issuer, ca))) == revoked


async def test_a_key_that_does_not_sign_holds_up_no_other(
    issuer: Issuer, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = await issuing(issuer)
    revoked = await revoke(issuer)
    tried = []

    def fail(ca: Ca) -> None:
        tried.append(ca.id)
        raise CertwireError(ErrorCode.CA_CANNOT_SIGN)

    with monkeypatch.context() as patched:
        patched.setattr(issuer.authorities, "authority", fail)
        for _ in range(3):
            await issuer.crls._make_each([ca.id])
        assert tried == [ca.id], "it is put off"
        with pytest.raises(CertwireError):
            await issuer.crls.current(ca)
    assert not await records.outbox("crl_publish")
    assert set(serials(await crl_of(issuer, ca))) == revoked


async def test_a_restored_database_is_believed(issuer: Issuer, records: Records) -> None:
    ca = await issuing(issuer)
    for _ in range(3):
        await revoke(issuer)
        await issuer.crls.make(ca.id)
    assert number_of(await crl_of(issuer, ca)) == 3
    await records.rows("DELETE FROM crl_segment")
    await records.rows("DELETE FROM crl")
    assert number_of(await crl_of(issuer, ca)) == 1


async def test_sweeps_up_cas_without_a_list_and_counts(issuer: Issuer) -> None:
    ca = await issuing(issuer)
    sweep = asyncio.create_task(issuer.crls.sweep())
    async with asyncio.timeout(5):
        while not await _has_crl(issuer, ca):
            await asyncio.sleep(0.02)
    sweep.cancel()
    async with issuer.runtime.database.connection() as connection:
        (total,) = [each for each in await crls.totals(connection) if each.kind == ca.kind]
    assert (total.kind, total.crls, total.entries, total.highest_number) == (ca.kind, 1, 0, 1)
    assert 0 <= total.oldest_seconds < 60


async def _has_crl(issuer: Issuer, ca: Ca) -> bool:
    async with issuer.runtime.database.connection() as connection:
        return await crls.last(connection, ca.id, 0) is not None


async def test_holds_a_bounded_number_in_memory(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = await issuing(issuer)
    held = await issuer.crls.current(ca)
    assert held is not None
    monkeypatch.setattr(crl, "MOST_HELD_BYTES", 2 * len(held.der))
    for ca_id in (77, 78, 77, 79):
        issuer.crls._keep(replace(held, row=replace(held.row, ca_id=ca_id)))
    assert list(issuer.crls._held) == [77, 79]
    assert issuer.crls._held_bytes == 2 * len(held.der)


# --- The database --------------------------------------------------------------------------------


async def test_the_look_that_every_replica_takes_is_by_indexes(issuer: Issuer) -> None:
    async with issuer.runtime.database.connection() as connection:
        await connection.execute("SET enable_seqscan = off")
        plans: Sequence[str] = [
            "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *arguments))
            for sql, *arguments in ((crls._DUE, 1.0), (crls._TAKE, 1), (crls._LAST, 1, 1))
        ]
        await connection.execute("RESET enable_seqscan")
    assert not [plan for plan in plans if "Seq Scan" in plan]


async def test_revocations_from_before_the_first_list_wait_for_it(
    issuer: Issuer, records: Records
) -> None:
    ca = await issuing(issuer)
    revoked = await revoke(issuer, 3)
    (row,) = await records.rows("SELECT count(*) FROM crl_waiting")
    assert row["count"] == 3
    assert set(serials(await crl_of(issuer, ca))) == revoked
    assert not await records.rows("SELECT FROM crl_waiting")


def test_the_offline_warnings() -> None:
    now = datetime.now(UTC)
    assert not list(crl._offline_warnings("root-1", now + timedelta(days=61), False))
    assert len(list(crl._offline_warnings("root-1", now + timedelta(days=59), True))) == 2
    (missing,) = crl._offline_warnings("root-1", None, False)
    assert "has no CRL" in missing
    assert cas.FILE == "file"
