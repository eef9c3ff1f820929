"""Bootstrap tokens: one use, fifteen minutes, nothing lost by a mistake."""

import asyncio

import pytest

from contracts.certificates import SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.instance import CreateBootstrapToken, InstanceStatus
from tests.contract.instance.dialogue import ADMIN, Dialogue, Guest, keyed, new_csr, new_wg_key
from tests.support.running import call


async def _code(awaitable: object) -> ErrorCode:
    with pytest.raises(CertwireError) as refused:
        await awaitable  # type: ignore[misc]  # any coroutine
    return refused.value.code


async def test_a_token_is_used_once_by_many_at_once(instances: Dialogue) -> None:
    guest = await instances.register()
    replies = await asyncio.gather(
        *(instances.bootstrap(guest, csr_pem=new_csr()) for _ in range(50)), return_exceptions=True
    )
    made = [reply for reply in replies if isinstance(reply, SignedCertificate)]
    assert len(made) == 1
    refused = {reply.code for reply in replies if isinstance(reply, CertwireError)}
    assert refused <= {ErrorCode.TOKEN_UNKNOWN}
    assert len(await instances.inventory(guest)) == 1


async def test_mistakes_do_not_cost_the_token(instances: Dialogue) -> None:
    guest = await instances.register()
    assert await _code(instances.bootstrap(guest, csr_pem="x" * 200)) is ErrorCode.INVALID_CSR
    wrong_key = instances.bootstrap(guest, wg_public_key=new_wg_key())
    assert await _code(wrong_key) is ErrorCode.IDENTITY_MISMATCH
    assert await _code(instances.bootstrap(guest, token="wrong")) is ErrorCode.TOKEN_UNKNOWN
    await instances.bootstrap(guest)


async def test_an_expired_token_is_worthless(instances: Dialogue) -> None:
    guest = await instances.register()
    async with instances.database.statement() as connection:
        await connection.execute("UPDATE bootstrap_token SET expires_at = now()")
    assert await _code(instances.bootstrap(guest)) is ErrorCode.TOKEN_UNKNOWN


async def test_a_token_is_its_instances_alone(instances: Dialogue) -> None:
    guest, other = await instances.register(), await instances.register()
    stolen = Guest(guest.instance, other.token)
    assert await _code(instances.bootstrap(stolen)) is ErrorCode.TOKEN_UNKNOWN


@pytest.mark.parametrize("status", [InstanceStatus.STOPPED, InstanceStatus.TERMINATED])
async def test_only_pending_and_running_instances_bootstrap(
    instances: Dialogue, status: InstanceStatus
) -> None:
    guest = await instances.running()
    fresh = await instances.send(
        CreateBootstrapToken(call=call(), principal=ADMIN, instance_id=guest.id)
    )
    await instances.move(guest, status)
    again = instances.bootstrap(guest, token=fresh.token)
    expected = {
        InstanceStatus.STOPPED: ErrorCode.INSTANCE_NOT_RUNNING,
        InstanceStatus.TERMINATED: ErrorCode.TOKEN_UNKNOWN,  # terminating spent it
    }
    assert await _code(again) is expected[status]


async def test_a_second_bootstrap_revokes_the_first_certificate(instances: Dialogue) -> None:
    guest = await instances.running()
    first = guest.certificate
    assert first is not None
    fresh = await instances.send(
        CreateBootstrapToken(call=call(), principal=ADMIN, instance_id=guest.id)
    )
    second = await instances.bootstrap(guest, token=fresh.token)
    assert await instances.inventory(guest) == [
        (second.fingerprint, None),
        (first.fingerprint, "superseded"),
    ]
    # Not even the key of the new certificate lets the old one fetch it: that was no renewal.
    assert await _code(instances.renew(guest)) is ErrorCode.CREDENTIAL_REFUSED
    # And it did not use up the hour.
    guest.certificate = second
    await instances.renew(guest)


async def test_a_new_token_spends_the_old_one(instances: Dialogue) -> None:
    guest = await instances.register()
    await instances.send(CreateBootstrapToken(call=call(), principal=ADMIN, instance_id=guest.id))
    assert await _code(instances.bootstrap(guest)) is ErrorCode.TOKEN_UNKNOWN


async def test_a_lost_reply_is_fetched_by_its_key(instances: Dialogue) -> None:
    guest = await instances.register()
    replies = await asyncio.gather(
        *(instances.bootstrap(guest, call=keyed("k")) for _ in range(10))
    )
    assert len({reply.fingerprint for reply in replies}) == 1
    reused = instances.bootstrap(guest, call=keyed("k", request="d" * 64))
    assert await _code(reused) is ErrorCode.IDEMPOTENCY_KEY_REUSED


async def test_an_address_that_guesses_has_to_wait(instances: Dialogue) -> None:
    guest = await instances.register()
    guesser = call().model_copy(update={"source_address": "192.0.2.1"})
    async with instances.database.statement() as connection:
        await connection.execute("INSERT INTO bootstrap_attempt VALUES ('192.0.2.1', now(), 120)")
    assert await _code(instances.bootstrap(guest, call=guesser)) is ErrorCode.RATE_LIMITED
    await instances.bootstrap(guest)
