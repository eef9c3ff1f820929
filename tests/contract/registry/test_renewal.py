"""Renewals of agents: old or new until the new one is used, one at a time, never stranded."""

import asyncio
import time
from itertools import pairwise

from contracts.agents import (
    AuthorizeAgent,
    DownloadAgentBundle,
    Enrolled,
    EnrollmentMethod,
    GetAuthMode,
    RevokeAgent,
    SetAllowedSites,
)
from contracts.errors import ErrorCode
from services.registry.domain.renewal import SETTLED_AFTER
from services.registry.sweeper import sweep
from tests.contract.registry.dialogue import Dialogue, certificate, keyed
from tests.support.csr import csr_pem, new_key
from tests.support.outcomes import refused
from tests.support.running import call

OVERLAP_ENDS = (
    "UPDATE registry.agent_certificate SET superseded_at = superseded_at - interval '24 h'"
)


async def agent(registry: Dialogue) -> str:
    """Enrol an agent and return its certificate."""
    enrolled = await registry.enrolled(allowed_sites=("blog",))
    return enrolled.certificate.fingerprint


async def test_old_and_new_are_the_same_agent_until_the_new_one_is_used(
    registry: Dialogue,
) -> None:
    old = await agent(registry)
    renewed: Enrolled = await registry.send(registry.renewal(old))
    new = renewed.certificate.fingerprint
    assert renewed.ca_pem.startswith("-----BEGIN CERTIFICATE-----")
    for _ in range(2):
        assert await registry.is_agent(old)
    before = await registry.own(old)
    assert await registry.accepted() == {old, new}
    after = await registry.own(new)
    assert after.serial_hex == renewed.certificate.serial_hex != before.serial_hex
    assert (after.label, after.capabilities, after.allowed_sites, after.created_at) == (
        (before.label, before.capabilities, before.allowed_sites, before.created_at)
    )
    assert not await registry.is_agent(old)
    assert await registry.is_agent(new)
    await registry.eventually_revoked(old)
    assert await registry.issued() == [(old, "superseded"), (new, None)]
    assert (await registry.agents()) == [after]
    assert (await registry.events())[-1] == "agent.renewed"
    assert (await registry.actions()).count("cert_supersede") == 1


async def test_any_resolved_request_is_a_use(registry: Dialogue) -> None:
    old = await agent(registry)
    new = await registry.renew(old)
    principal = await registry.resolve(new)
    assert principal is not None
    assert principal.fingerprint == new
    assert await registry.resolve(old) is None
    newer = await registry.renew(new)
    asked = AuthorizeAgent(
        call=call(), credential=certificate(newer), capability="tunnels:read", site="blog"
    )
    assert await registry.code(asked) is None
    assert not await registry.is_agent(new)


async def test_a_use_at_once_from_all_sides_ends_the_old_one_once(registry: Dialogue) -> None:
    old = await agent(registry)
    new = await registry.renew(old)
    await asyncio.gather(*(registry.resolve(new) for _ in range(20)))
    assert not await registry.is_agent(old)
    assert (await registry.actions()).count("cert_supersede") == 1


async def test_the_old_one_ends_after_24_hours(registry: Dialogue) -> None:
    old = await agent(registry)
    csr = csr_pem()
    new = await registry.renew(old, csr)
    await registry.tables.run(OVERLAP_ENDS)
    assert not await registry.is_agent(old)  # before any sweeper has come by
    for _ in range(2):
        await sweep(registry.registry)
    assert await registry.accepted() == {new}
    await registry.eventually_revoked(old)
    assert (await registry.actions()).count("cert_supersede") == 1
    # It can still fetch what it was renewed to, and nothing else.
    assert await registry.renew(old, csr) == new
    assert await registry.code(registry.renewal(old)) is ErrorCode.CREDENTIAL_REFUSED
    assert await registry.code(registry.renewal(old, "")) is ErrorCode.CREDENTIAL_REFUSED
    assert not await registry.is_agent(old)
    assert await registry.is_agent(new)


async def test_a_lost_reply_is_fetched_again_with_the_same_key(registry: Dialogue) -> None:
    old = await agent(registry)
    key = new_key()
    new = await registry.renew(old, csr_pem(key))
    assert await registry.renew(old, csr_pem(key)) == new
    assert await registry.is_agent(new)
    assert await registry.renew(old, csr_pem(key, "another name")) == new
    # The new one's own renewal may keep the key: that is another certificate.
    newer = await registry.renew(new, csr_pem(key))
    assert newer != new
    assert await registry.renew(new, csr_pem(key)) == newer
    assert await registry.code(registry.renewal(old, csr_pem(key))) is (
        ErrorCode.CREDENTIAL_REFUSED
    )
    assert len(await registry.issued()) == 3


async def test_a_lost_key_is_no_reason_to_be_stranded(registry: Dialogue) -> None:
    old = await agent(registry)
    lost = await registry.renew(old)
    began = time.monotonic()
    new = await registry.renew(old)  # another key: waits until the first one has settled
    assert time.monotonic() - began > SETTLED_AFTER.total_seconds() - 0.5
    assert await registry.accepted() == {old, new}
    assert not await registry.is_agent(lost)
    assert await registry.is_agent(old)
    assert await registry.is_agent(new)
    assert await registry.accepted() == {new}
    await registry.eventually_revoked(old, lost)


async def test_the_overlap_begins_anew_with_another_certificate(registry: Dialogue) -> None:
    old = await agent(registry)
    await registry.renew(old)
    await registry.tables.run(OVERLAP_ENDS.replace("24 h", "23 h"))
    await registry.let_a_second_certificate_in()
    await registry.renew(old)
    await registry.tables.run(OVERLAP_ENDS.replace("24 h", "23 h"))
    assert await registry.is_agent(old)


async def test_a_new_one_that_is_used_meanwhile_ends_the_other_renewal(
    registry: Dialogue,
) -> None:
    old = await agent(registry)
    new = await registry.renew(old)
    await registry.tables.run(  # however long it takes here
        "UPDATE registry.agent_certificate SET created_at = created_at + interval '1 h'"
    )
    other = asyncio.create_task(registry.code(registry.renewal(old)))
    await asyncio.sleep(0.3)
    assert await registry.is_agent(new)
    assert await other is ErrorCode.CREDENTIAL_REFUSED
    assert await registry.accepted() == {new}


async def test_renewals_at_once_with_one_key_make_one_certificate(registry: Dialogue) -> None:
    old = await agent(registry)
    csr = csr_pem()
    made = await asyncio.gather(*(registry.renew(old, csr) for _ in range(20)))
    assert len(set(made)) == 1
    assert await registry.accepted() == {old, made[0]}
    assert len(await registry.issued()) == 2


async def test_of_renewals_at_once_with_many_keys_the_last_certificate_lives(
    registry: Dialogue,
) -> None:
    old = await agent(registry)

    async def renew() -> tuple[float, str]:
        new = await registry.send(registry.renewal(old, circumstances=call(30)))
        return time.monotonic(), new.certificate.fingerprint

    made = sorted(await asyncio.gather(*(renew() for _ in range(3))))
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(made)]
    assert min(gaps) > SETTLED_AFTER.total_seconds() - 0.5
    *replaced, last = [fingerprint for _, fingerprint in made]
    assert await registry.accepted() == {old, last}
    assert await registry.is_agent(last)
    assert await registry.accepted() == {last}
    await registry.eventually_revoked(old, *replaced)


async def test_a_repeat_with_an_idempotency_key_gets_the_first_answer(
    registry: Dialogue,
) -> None:
    old = await agent(registry)
    command = registry.renewal(old, circumstances=keyed("k", old))
    first = await registry.send(command)
    assert await registry.send(command) == first
    reused = command.model_copy(update={"call": keyed("k", old, request="d" * 64)})
    assert await registry.code(reused) is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert await registry.is_agent(first.certificate.fingerprint)
    assert await registry.send(command) == first
    assert len(await registry.issued()) == 2


async def test_an_invalid_request_changes_nothing(registry: Dialogue) -> None:
    old = await agent(registry)
    assert await registry.code(registry.renewal(old, "no CSR")) is ErrorCode.INVALID_CSR
    assert await registry.code(registry.renewal(old, "x" * 8193)) is ErrorCode.CSR_TOO_LARGE
    assert await registry.accepted() == {old}
    await registry.renew(old)


async def test_a_revoked_agent_loses_both_certificates(registry: Dialogue) -> None:
    old = await agent(registry)
    csr = csr_pem()
    new = await registry.renew(old, csr)
    await registry.as_admin(RevokeAgent, label="mac")
    for fingerprint in (old, new):
        assert not await registry.is_agent(fingerprint)
        assert await registry.code(registry.renewal(fingerprint, csr)) is (
            ErrorCode.CREDENTIAL_REFUSED
        )
    await registry.eventually_revoked(old, new)


async def test_a_revocation_during_a_renewal_leaves_nothing(registry: Dialogue) -> None:
    for round_ in range(5):
        enrolled = await registry.enrolled(f"mac-{round_}")
        old = enrolled.certificate.fingerprint
        outcome, _ = await asyncio.gather(
            registry.code(registry.renewal(old)),
            registry.as_admin(RevokeAgent, label=f"mac-{round_}"),
        )
        assert outcome in {None, ErrorCode.CREDENTIAL_REFUSED, ErrorCode.CLAIM_VOIDED}
        assert await registry.accepted(f"mac-{round_}") == set()
    await sweep(registry.registry)
    fingerprints = [fingerprint for fingerprint, _ in await registry.issued()]
    await registry.eventually_revoked(*fingerprints)


async def test_an_agent_with_a_bundle_keeps_its_key_to_itself_afterwards(
    registry: Dialogue,
) -> None:
    await registry.create()
    old = await registry.fingerprint()
    new = await registry.renew(old)
    await registry.as_admin(DownloadAgentBundle, label="mac")  # the old one still counts
    shown = await registry.own(new)
    assert shown.enrollment_method is EnrollmentMethod.HARDWARE_BOUND
    with refused(ErrorCode.NOT_FOUND):
        await registry.as_admin(DownloadAgentBundle, label="mac")


async def test_changes_during_the_overlap_count_for_both(registry: Dialogue) -> None:
    old = await agent(registry)
    new = await registry.renew(old)
    await registry.as_admin(SetAllowedSites, label="mac", allowed_sites=("docs",))
    assert (await registry.own(old)).allowed_sites == ("docs",)
    assert (await registry.own(new)).allowed_sites == ("docs",)


async def test_even_a_refused_request_shows_that_the_new_one_arrived(registry: Dialogue) -> None:
    old = await agent(registry)
    new = await registry.renew(old)
    asked = GetAuthMode(call=call(), credential=certificate(new))
    assert await registry.code(asked) is ErrorCode.FORBIDDEN
    assert await registry.accepted() == {new}
