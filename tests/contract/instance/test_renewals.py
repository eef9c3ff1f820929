"""Renewals against the real issuer: once an hour, once at a time, never lost, never doubled."""

import asyncio
from collections import Counter

import pytest
from cryptography import x509

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import InstanceStatus, RevokeInstanceCertificate
from contracts.subjects import Service
from services.instance import sweeper
from services.instance.service import Instances
from services.instance.settings import InstanceSettings
from shared.runtime import Runtime
from tests.contract.instance.dialogue import (
    ADMIN,
    Dialogue,
    Guest,
    credential,
    keyed,
    new_csr,
    new_wg_key,
)
from tests.support.running import call


async def _refused(awaitable: object) -> CertwireError:
    with pytest.raises(CertwireError) as refused:
        await awaitable  # type: ignore[misc]  # any coroutine
    return refused.value


async def test_renews_once_an_hour(instances: Dialogue) -> None:
    guest = await instances.running()
    first = guest.certificate
    assert first is not None
    second = await instances.renew(guest)
    assert second.fingerprint != first.fingerprint
    assert await instances.inventory(guest) == [
        (second.fingerprint, None),
        (first.fingerprint, "superseded"),
    ]
    guest.certificate, guest.csr = second, new_csr()
    limited = await _refused(instances.renew(guest))
    assert limited.code is ErrorCode.RATE_LIMITED
    assert 3590 <= (limited.retry_after_seconds or 0) <= 3600
    await instances.let_time_pass(guest, "3601 s")
    third = await instances.renew(guest)
    assert third.fingerprint not in {first.fingerprint, second.fingerprint}


async def test_the_certificate_is_the_profiles(instances: Dialogue) -> None:
    guest = await instances.running()
    certificate = x509.load_pem_x509_certificate(
        (await instances.renew(guest)).certificate_pem.encode()
    )
    assert certificate.subject.rfc4514_string() == f"CN=instance:{guest.id}"
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime.total_seconds() == 24 * 3600 - 1
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"spiffe://certwire.internal/instance/{guest.id}"
    ]


async def test_parallel_renewals_make_one_certificate(instances: Dialogue) -> None:
    guest = await instances.running()
    replies = await asyncio.gather(
        *(instances.renew(guest) for _ in range(200)), return_exceptions=True
    )
    made = {reply.certificate_pem for reply in replies if not isinstance(reply, BaseException)}
    codes = Counter(reply.code for reply in replies if isinstance(reply, CertwireError))
    assert len(made) == 1
    assert codes.keys() <= {ErrorCode.RATE_LIMITED, ErrorCode.CREDENTIAL_REFUSED}
    assert len(await instances.inventory(guest)) == 2
    assert await instances.count("SELECT count(*) FROM claim WHERE state = 'recorded'") == 2


async def test_a_lost_reply_is_fetched_again(instances: Dialogue) -> None:
    guest = await instances.running()
    lost = await instances.renew(guest)
    assert await instances.renew(guest) == lost
    other_key = await _refused(instances.renew(guest, csr_pem=new_csr()))
    assert other_key.code is ErrorCode.CREDENTIAL_REFUSED
    secrets = await _refused(instances.refresh(guest))
    assert secrets.code is ErrorCode.CREDENTIAL_REFUSED
    # Once the new one has renewed itself, the old one has no answer left.
    successor = Guest(guest.instance, guest.token, lost)
    await instances.let_time_pass(guest, "3601 s")
    await instances.renew(successor)
    assert (await _refused(instances.renew(guest))).code is ErrorCode.CREDENTIAL_REFUSED


async def test_a_reused_idempotency_key_is_told(instances: Dialogue) -> None:
    guest = await instances.running()
    first = await instances.renew(guest, call=keyed("k"))
    assert await instances.renew(guest, call=keyed("k")) == first
    reused = await _refused(instances.renew(guest, call=keyed("k", request="d" * 64)))
    assert reused.code is ErrorCode.IDEMPOTENCY_KEY_REUSED


async def test_an_invalid_csr_costs_nothing_but_attempts(instances: Dialogue) -> None:
    guest = await instances.running()
    broken = guest.csr[:60] + ("A" if guest.csr[60] != "A" else "B") + guest.csr[61:]
    for _ in range(3):
        assert (
            await _refused(instances.renew(guest, csr_pem=broken))
        ).code is ErrorCode.INVALID_CSR
    await instances.renew(guest)
    failures = await instances.count("SELECT failures FROM instance WHERE id = $1", guest.id)
    assert failures == 3


async def test_too_many_invalid_csrs_are_limited(instances: Dialogue) -> None:
    guest = await instances.running()
    async with instances.database.statement() as connection:
        await connection.execute("UPDATE instance SET failures = 60, failing_since = now()")
    assert (await _refused(instances.renew(guest))).code is ErrorCode.RATE_LIMITED
    await instances.let_time_pass(guest, "1 hour")
    await instances.renew(guest)


async def test_each_identity_is_checked(instances: Dialogue) -> None:
    guest, other = await instances.running(), await instances.running()
    assert other.certificate is not None
    mismatch = ErrorCode.IDENTITY_MISMATCH
    for fields, expected in (
        ({"credential": None}, ErrorCode.CREDENTIAL_MISSING),
        ({"credential": credential(other.certificate)}, mismatch),
        ({"wg_public_key": new_wg_key()}, mismatch),
        ({"wg_public_key": "string"}, mismatch),
        ({"instance_id": "497f6eca-6276-4993-bfeb-53cbbbba6f08"}, ErrorCode.NOT_FOUND),
    ):
        assert (await _refused(instances.renew(guest, **fields))).code is expected
    await instances.move(guest, InstanceStatus.STOPPED)
    stopped = await _refused(instances.renew(guest, csr_pem="x" * 100))
    assert stopped.code is ErrorCode.INSTANCE_NOT_RUNNING


async def test_a_revoked_certificate_is_refused_at_once(instances: Dialogue) -> None:
    guest = await instances.running()
    await instances.send(
        RevokeInstanceCertificate(call=call(), principal=ADMIN, instance_id=guest.id)
    )
    assert (await _refused(instances.renew(guest))).code is ErrorCode.CREDENTIAL_REFUSED
    again = await _refused(
        instances.send(
            RevokeInstanceCertificate(call=call(), principal=ADMIN, instance_id=guest.id)
        )
    )
    assert again.code is ErrorCode.NOT_FOUND


async def test_a_claim_that_nobody_ends_is_voided(instances: Dialogue) -> None:
    """The process died after its claim: the hour and the old certificate are kept."""
    guest = await instances.running()
    assert guest.certificate is not None
    async with instances.database.statement() as connection:
        await connection.execute(
            "WITH c AS (INSERT INTO claim (id, instance_id, renews, request_id, created_at)"
            " VALUES (gen_random_uuid(), $1, $2, 'r', now() - interval '31 s') RETURNING id)"
            " UPDATE instance SET pending_claim = (SELECT id FROM c) WHERE id = $1",
            guest.id,
            guest.certificate.fingerprint,
        )
    await instances.eventually_none(
        "SELECT count(*) FROM claim WHERE state = 'pending' OR state = 'voided' AND NOT void_told"
    )
    await instances.renew(guest)


async def test_revocations_reach_the_issuer(instances: Dialogue) -> None:
    guest = await instances.running()
    await instances.renew(guest)
    await instances.move(guest, InstanceStatus.TERMINATED)
    await instances.eventually_none("SELECT count(*) FROM certificate WHERE NOT revocation_told")
    assert [reason for _, reason in await instances.inventory(guest)] == [
        "cessation_of_operation",
        "superseded",
    ]


async def test_terminating_during_a_renewal_leaves_nothing_valid(instances: Dialogue) -> None:
    guest = await instances.running()
    await asyncio.gather(
        instances.renew(guest),
        instances.move(guest, InstanceStatus.TERMINATED),
        return_exceptions=True,
    )
    assert all(reason is not None for _, reason in await instances.inventory(guest))
    current = await instances.count(
        "SELECT count(*) FROM instance WHERE current_fingerprint IS NOT NULL"
    )
    assert current == 0


async def test_sweeping_twice_is_sweeping_once(instances: Dialogue) -> None:
    guest = await instances.running()
    await instances.renew(guest)
    runtime = await Runtime.open(Service.INSTANCE, instances.place.settings(InstanceSettings))
    try:
        service = Instances(runtime, instances.place.settings(InstanceSettings))
        await runtime.bus_broker.connect()
        await asyncio.gather(*(sweeper.tell_revoked(service) for _ in range(5)))
        assert await sweeper.tell_revoked(service) == 0
    finally:
        await runtime.close()
