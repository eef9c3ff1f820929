"""Enrolment tokens: one use, ten minutes, nothing lost by a mistake."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from contracts.agents import (
    CancelEnrollmentToken,
    Capability,
    EnrollAgent,
    Enrolled,
    EnrollmentMethod,
    RevokeAgent,
)
from contracts.errors import CertwireError, ErrorCode
from services.registry.sweeper import sweep
from shared.broker import close
from shared.clock import utc_now
from shared.secrets import token_hash
from tests.contract.registry.dialogue import Dialogue, certificate, keyed
from tests.support.csr import csr_pem, new_key
from tests.support.running import call

READ, WRITE = Capability.TUNNELS_READ, Capability.TUNNELS_WRITE
AGE = "UPDATE registry.enrollment_token SET expires_at = expires_at - interval '10 min'"


async def refusal(registry: Dialogue, command: EnrollAgent) -> CertwireError:
    with pytest.raises(CertwireError) as refused:
        await registry.send(command)
    return refused.value


def tampered() -> str:
    request = x509.load_pem_x509_csr(csr_pem().encode()).public_bytes(Encoding.DER)
    broken = request[:-1] + bytes([request[-1] ^ 1])
    return x509.load_der_x509_csr(broken).public_bytes(Encoding.PEM).decode()


def outcomes(replies: list[object]) -> Counter[object]:
    return Counter(r.code if isinstance(r, CertwireError) else type(r) for r in replies)


async def test_a_token_makes_an_agent_of_the_key_that_never_left_it(registry: Dialogue) -> None:
    token = await registry.token(capabilities=(READ, WRITE), allowed_sites=("blog",))
    assert len(bytes.fromhex(token.token)) == 32
    lifetime = token.expires_at - utc_now()
    assert timedelta(minutes=9) < lifetime <= timedelta(minutes=10)
    key = new_key()
    enrolled: Enrolled = await registry.send(
        registry.enrolment(token.token, csr_pem(key, "agent:somebody-else"))
    )
    leaf = x509.load_pem_x509_certificate(enrolled.certificate.certificate_pem.encode())
    assert leaf.public_key() == key.public_key()
    assert leaf.subject.rfc4514_string() == "CN=agent:mac"
    cas = x509.load_pem_x509_certificates(enrolled.ca_pem.encode())
    leaf.verify_directly_issued_by(cas[-1])
    assert cas[0].issuer == cas[0].subject
    agent = await registry.own(enrolled.certificate.fingerprint)
    assert agent.enrollment_method is EnrollmentMethod.HARDWARE_BOUND
    assert (agent.capabilities, agent.allowed_sites) == ((READ, WRITE), ("blog",))
    assert await registry.events() == ["token.created", "token.consumed", "agent.enrolled"]
    assert (await registry.actions())[-3:] == ["token_create", "token_consume", "agent_enroll"]


async def test_of_50_enrolments_with_one_token_one_gets_a_certificate(registry: Dialogue) -> None:
    token = await registry.token()
    replies = await asyncio.gather(
        *(registry.send(registry.enrolment(token.token)) for _ in range(50)),
        return_exceptions=True,
    )
    assert outcomes(replies) == {Enrolled: 1, ErrorCode.TOKEN_USED: 49}
    assert len(await registry.issued()) == 1
    assert len(await registry.agents()) == 1


async def test_the_checks_come_in_their_order(registry: Dialogue) -> None:
    token = await registry.token()
    bad = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"
    large = "x" * 8193
    unknown = "0" * 64
    assert (await refusal(registry, registry.enrolment(unknown, large))).code is (
        ErrorCode.CSR_TOO_LARGE
    )
    assert (await refusal(registry, registry.enrolment(unknown, bad))).code is (
        ErrorCode.TOKEN_UNKNOWN
    )
    # An invalid CSR comes before the label, and burns nothing.
    await registry.create("mac")
    assert (await refusal(registry, registry.enrolment(token.token, bad))).code is (
        ErrorCode.INVALID_CSR
    )
    taken = await refusal(registry, registry.enrolment(token.token))
    assert (taken.code, taken.parameters) == (ErrorCode.ALREADY_EXISTS, {"label": "mac"})
    # Expired comes before invalid, used before expired.
    await registry.tables.run(AGE)
    assert (await refusal(registry, registry.enrolment(token.token, bad))).code is (
        ErrorCode.TOKEN_EXPIRED
    )
    await registry.tables.run("UPDATE registry.enrollment_token SET state = 'consumed'")
    assert (await refusal(registry, registry.enrolment(token.token, bad))).code is (
        ErrorCode.TOKEN_USED
    )


async def test_weak_and_tampered_requests_cost_nothing(registry: Dialogue) -> None:
    token = await registry.token()
    weak = csr_pem(rsa.generate_private_key(65537, 1024))  # noqa: S505 - that is the point
    for csr in (weak, tampered(), "", "\x7f", csr_pem() + csr_pem()):
        refused = await refusal(registry, registry.enrolment(token.token, csr))
        assert refused.code is ErrorCode.INVALID_CSR, csr
    await registry.send(registry.enrolment(token.token))


async def test_a_spent_token_is_worthless_but_for_its_idempotency_key(registry: Dialogue) -> None:
    token = await registry.token()
    command = registry.enrolment(token.token, key="k")
    first = await registry.send(command)
    assert await registry.send(command) == first
    others = (
        registry.enrolment(token.token, command.csr_pem),
        registry.enrolment(token.token, command.csr_pem, key="another"),
    )
    for other in others:
        assert (await refusal(registry, other)).code is ErrorCode.TOKEN_USED
    reused = command.model_copy(
        update={"call": keyed("k", token_hash(token.token), request="d" * 64)}
    )
    assert (await refusal(registry, reused)).code is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert len(await registry.issued()) == 1


async def test_repeats_at_once_get_the_same_certificate(registry: Dialogue) -> None:
    token = await registry.token()
    command = registry.enrolment(token.token, key="k")
    replies = await asyncio.gather(*(registry.send(command) for _ in range(10)))
    assert len({reply.certificate.fingerprint for reply in replies}) == 1
    assert len(await registry.issued()) == 1


async def test_a_label_has_one_pending_token(registry: Dialogue) -> None:
    first = await registry.token()
    with pytest.raises(CertwireError) as pending:
        await registry.token()
    assert pending.value.code is ErrorCode.TOKEN_PENDING
    assert pending.value.parameters == {"label": "mac"}
    await registry.tables.run(AGE)
    second = await registry.token()
    assert (await refusal(registry, registry.enrolment(first.token))).code is (
        ErrorCode.TOKEN_EXPIRED
    )
    await registry.send(registry.enrolment(second.token))
    with pytest.raises(CertwireError) as taken:
        await registry.token()
    assert taken.value.code is ErrorCode.ALREADY_EXISTS
    await registry.as_admin(RevokeAgent, label="mac")
    await registry.token()


async def test_of_many_tokens_at_once_one_is_made(registry: Dialogue) -> None:
    replies = await asyncio.gather(*(registry.token() for _ in range(20)), return_exceptions=True)
    codes = [reply.code for reply in replies if isinstance(reply, CertwireError)]
    assert codes == [ErrorCode.TOKEN_PENDING] * 19


async def test_a_repeated_token_says_that_the_first_took_effect(registry: Dialogue) -> None:
    await registry.token(call=keyed("k"))
    with pytest.raises(CertwireError) as repeated:
        await registry.token(call=keyed("k"))
    assert repeated.value.code is ErrorCode.IDEMPOTENCY_SECRET_SHOWN


async def test_a_cancelled_token_is_nobodys(registry: Dialogue) -> None:
    token = await registry.token()
    await registry.as_admin(CancelEnrollmentToken, label="mac")
    assert (await refusal(registry, registry.enrolment(token.token))).code is (
        ErrorCode.TOKEN_UNKNOWN
    )
    with pytest.raises(CertwireError) as nothing:
        await registry.as_admin(CancelEnrollmentToken, label="mac")
    assert nothing.value.code is ErrorCode.NOT_FOUND
    assert await registry.events() == ["token.created", "token.cancelled"]
    await registry.tables.run(AGE)
    await registry.token()
    await registry.tables.run(AGE)
    with pytest.raises(CertwireError) as expired:
        await registry.as_admin(CancelEnrollmentToken, label="mac")
    assert expired.value.code is ErrorCode.NOT_FOUND


async def test_cancelling_and_enrolling_at_once_agree(registry: Dialogue) -> None:
    for round_ in range(5):
        label = f"mac-{round_}"
        token = await registry.token(label)
        cancelling = CancelEnrollmentToken(
            call=call(), credential=certificate(registry.admin), label=label
        )
        enrolled, cancelled = await asyncio.gather(
            registry.code(registry.enrolment(token.token)), registry.code(cancelling)
        )
        labels = {agent.label for agent in await registry.agents()}
        if cancelled is None:
            assert enrolled is ErrorCode.TOKEN_UNKNOWN
            assert label not in labels
        else:
            assert cancelled is ErrorCode.NOT_FOUND
            assert enrolled is None
            assert label in labels


async def test_an_address_that_guesses_has_to_wait(registry: Dialogue) -> None:
    token = await registry.token()

    def from_address(address: str, presented: str) -> EnrollAgent:
        circumstances = call().model_copy(update={"source_address": address})
        return EnrollAgent(call=circumstances, token=presented, csr_pem=csr_pem())

    guess = from_address("2001:db8::1", "0" * 64)
    assert (await refusal(registry, guess)).code is ErrorCode.TOKEN_UNKNOWN
    await registry.tables.run("UPDATE registry.enrollment_attempt SET failures = 119")
    assert (await refusal(registry, guess)).code is ErrorCode.TOKEN_UNKNOWN
    neighbour = from_address("2001:db8::2", token.token)
    limited = await refusal(registry, neighbour)
    assert limited.code is ErrorCode.RATE_LIMITED
    assert limited.retry_after_seconds is not None
    assert 0 < limited.retry_after_seconds <= 60
    await registry.send(from_address("2001:db9::1", token.token))
    await registry.tables.run(
        "UPDATE registry.enrollment_attempt SET window_began = now() - interval '1 min'"
    )
    assert (await refusal(registry, guess)).code is ErrorCode.TOKEN_UNKNOWN


async def test_without_an_issuer_nothing_is_lost(registry: Dialogue) -> None:
    token = await registry.token()
    await close(registry.issuer.runtime.bus_broker)
    refused = await refusal(registry, registry.enrolment(token.token))
    assert refused.code is ErrorCode.UNAVAILABLE
    assert await registry.agents() == []
    states = "SELECT state FROM registry.claim WHERE subject = 'agent:mac'"
    assert await registry.tables.values(states) == ["voided"]
    with pytest.raises(CertwireError):
        await sweep(registry.registry)
    free = "SELECT state FROM registry.enrollment_token"
    assert await registry.tables.values(free) == ["pending"]
