"""Agents: who may ask what, and what the administrator does with them."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from contracts.agents import (
    AgentPage,
    AuthorizeAgent,
    Bundle,
    CancelEnrollmentToken,
    Capability,
    CreateAgent,
    CreatedAgent,
    CreateEnrollmentToken,
    DownloadAdminBundle,
    DownloadAgentBundle,
    EnrollmentMethod,
    GetAuthMode,
    GetMtlsCertificates,
    GetOnboarding,
    GetOwnAgent,
    ListAgents,
    Onboarding,
    RenewAgent,
    RevokeAgent,
    RotateAdmin,
    SetAllowedSites,
    SetCapabilities,
    UpgradeAdmin,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import PrincipalKind
from services.registry.domain.renewal import OVERLAP
from services.registry.store import agents as store
from services.registry.store import credentials
from shared.x509 import fingerprint
from tests.contract.registry.dialogue import Dialogue, certificate, keyed
from tests.support.agents import MANY_AGENTS
from tests.support.csr import csr_pem
from tests.support.running import call

READ, WRITE, SITES = Capability.TUNNELS_READ, Capability.TUNNELS_WRITE, Capability.SITES_READ
LABEL: dict[str, Any] = {"label": "mac"}
ADMIN_COMMANDS: list[tuple[type[Command[Any]], dict[str, Any]]] = [
    (GetMtlsCertificates, {}),
    (RotateAdmin, {}),
    (DownloadAdminBundle, {}),
    (UpgradeAdmin, {"csr_pem": "not even a CSR"}),
    (GetAuthMode, {}),
    (CreateAgent, LABEL),
    (ListAgents, {"limit": 1}),
    (DownloadAgentBundle, LABEL),
    (SetCapabilities, {**LABEL, "capabilities": (READ,)}),
    (SetAllowedSites, {**LABEL, "allowed_sites": ()}),
    (RevokeAgent, LABEL),
    (CreateEnrollmentToken, LABEL),
    (CancelEnrollmentToken, LABEL),
]
AGENT_COMMANDS: list[tuple[type[Command[Any]], dict[str, Any]]] = [
    (GetOwnAgent, {}),
    (AuthorizeAgent, {"capability": "tunnels:read"}),
    (RenewAgent, {"csr_pem": "not even a CSR"}),
]


async def test_whoever_may_not_ask_is_told_so_before_anything_else(registry: Dialogue) -> None:
    await registry.create("mac")
    agent = await registry.fingerprint("mac")
    await registry.create("gone")
    revoked = await registry.fingerprint("gone")
    await registry.as_admin(RevokeAgent, label="gone")
    cases = [(command, fields, agent) for command, fields in ADMIN_COMMANDS]
    cases += [(command, fields, registry.admin) for command, fields in AGENT_COMMANDS]
    for command, fields, other in cases:
        for credential, expected in (
            (None, ErrorCode.CREDENTIAL_MISSING),
            (certificate("0" * 64), ErrorCode.CREDENTIAL_REFUSED),
            (certificate(revoked), ErrorCode.CREDENTIAL_REFUSED),
            (certificate(other), ErrorCode.FORBIDDEN),
        ):
            sent = command.model_validate({"call": call(), "credential": credential, **fields})
            assert await registry.code(sent) is expected, (command, expected)


async def test_an_expired_certificate_is_refused(registry: Dialogue) -> None:
    await registry.create()
    agent = await registry.fingerprint()
    assert await registry.is_agent(agent)
    await registry.tables.run("UPDATE registry.agent_certificate SET not_after = now()")
    assert not await registry.is_agent(agent)
    assert await registry.code(registry.renewal(agent)) is ErrorCode.CREDENTIAL_REFUSED
    assert await registry.resolve(agent) is None


async def test_any_certificate_of_ours_may_ask_how_far_the_platform_is(registry: Dialogue) -> None:
    await registry.create()
    for asking in (None, registry.admin, await registry.fingerprint()):
        credential = certificate(asking) if asking else None
        reply = await registry.send(GetOnboarding(call=call(), credential=credential))
        assert reply.status is Onboarding.FRESH
    unknown = GetOnboarding(call=call(), credential=certificate("0" * 64))
    assert await registry.code(unknown) is ErrorCode.CREDENTIAL_REFUSED


async def test_a_new_agent_has_a_bundle_that_its_password_opens(registry: Dialogue) -> None:
    created = await registry.create(capabilities=(WRITE, READ, READ), allowed_sites=("b", "a"))
    agent = created.agent
    assert (agent.capabilities, agent.allowed_sites) == ((WRITE, READ), ("b", "a"))
    assert agent.enrollment_method is EnrollmentMethod.P12
    for legacy in (False, True):
        bundle: Bundle = await registry.as_admin(DownloadAgentBundle, label="mac", legacy=legacy)
        key, leaf, _ = pkcs12.load_key_and_certificates(
            bundle.pkcs12, created.p12_password.encode()
        )
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert leaf is not None
        assert key.public_key() == leaf.public_key()
        assert leaf.subject.rfc4514_string() == "CN=agent:mac"
        assert format(leaf.serial_number, "x") == agent.serial_hex
        assert await registry.is_agent(fingerprint(leaf.public_bytes(Encoding.DER)))
    assert await registry.agents() == [agent]
    formats = await registry.tables.values(
        "SELECT entry::json->'detail'->>'format' FROM registry.outbox"
        " WHERE entry::json->>'action' = 'agent_download' ORDER BY position"
    )
    assert formats == ["pkcs12", "legacy"]
    assert await registry.events() == ["agent.created"]


async def test_a_label_has_one_active_agent(registry: Dialogue) -> None:
    await registry.create()
    with pytest.raises(CertwireError) as taken:
        await registry.create()
    assert taken.value.code is ErrorCode.ALREADY_EXISTS
    assert taken.value.parameters == {"label": "mac"}


async def test_of_many_creations_at_once_one_makes_a_certificate(registry: Dialogue) -> None:
    replies = await asyncio.gather(*(registry.create() for _ in range(20)), return_exceptions=True)
    outcomes = Counter(r.code if isinstance(r, CertwireError) else type(r) for r in replies)
    assert outcomes == {CreatedAgent: 1, ErrorCode.ALREADY_EXISTS: 19}
    assert len(await registry.issued()) == 1


async def test_a_repeated_creation_says_that_the_first_took_effect(registry: Dialogue) -> None:
    await registry.create(call=keyed("k"))
    for _ in range(2):
        with pytest.raises(CertwireError) as repeated:
            await registry.create(call=keyed("k"))
        assert repeated.value.code is ErrorCode.IDEMPOTENCY_SECRET_SHOWN
    assert len(await registry.issued()) == 1


async def test_of_many_repeats_at_once_one_takes_effect(registry: Dialogue) -> None:
    replies = await asyncio.gather(
        *(registry.create(call=keyed("k")) for _ in range(10)), return_exceptions=True
    )
    outcomes = Counter(r.code if isinstance(r, CertwireError) else type(r) for r in replies)
    assert outcomes == {CreatedAgent: 1, ErrorCode.IDEMPOTENCY_SECRET_SHOWN: 9}
    assert len(await registry.issued()) == 1


async def test_what_is_wrong_with_capabilities_or_sites_is_refused(registry: Dialogue) -> None:
    await registry.create("old")
    credential = certificate(registry.admin)
    for command in (CreateAgent, CreateEnrollmentToken):
        for fields in ({"capabilities": (WRITE,)}, {"allowed_sites": ("a/b",)}):
            sent = command(call=call(), credential=credential, label="mac", **fields)
            assert await registry.code(sent) is ErrorCode.INVALID_REQUEST
    no_read = SetCapabilities(call=call(), credential=credential, label="old", capabilities=())
    path = SetAllowedSites(call=call(), credential=credential, label="old", allowed_sites=("..",))
    assert await registry.code(no_read) is ErrorCode.INVALID_REQUEST
    assert await registry.code(path) is ErrorCode.INVALID_REQUEST
    assert [agent.label for agent in await registry.agents()] == ["old"]


async def test_capabilities_and_sites_count_from_the_next_request(registry: Dialogue) -> None:
    await registry.create()
    agent = await registry.fingerprint()
    asked = AuthorizeAgent(
        call=call(), credential=certificate(agent), capability="sites:read", site="blog"
    )
    assert await registry.code(asked) is ErrorCode.FORBIDDEN
    await registry.as_admin(SetCapabilities, label="mac", capabilities=(READ, SITES))
    assert await registry.code(asked) is ErrorCode.FORBIDDEN
    await registry.as_admin(SetAllowedSites, label="mac", allowed_sites=("blog", "blog"))
    assert await registry.code(asked) is None
    principal = await registry.resolve(agent)
    assert principal is not None
    assert (principal.kind, principal.name) == (PrincipalKind.AGENT, "mac")
    assert principal.capabilities == ("tunnels:read", "sites:read")
    assert principal.allowed_sites == ("blog",)
    own = await registry.own(agent)
    assert (own.capabilities, own.allowed_sites) == ((READ, SITES), ("blog",))
    # The same once more is recorded, but nothing has happened.
    await registry.as_admin(SetAllowedSites, label="mac", allowed_sites=("blog",))
    await registry.as_admin(SetAllowedSites, label="mac", allowed_sites=())
    assert await registry.code(asked) is ErrorCode.FORBIDDEN
    assert await registry.events() == [
        "agent.created",
        "agent.capabilities_changed",
        "agent.sites_changed",
        "agent.sites_changed",
    ]
    assert (await registry.actions()).count("agent_set_sites") == 3


async def test_the_same_change_twice_gets_the_first_answer(registry: Dialogue) -> None:
    await registry.create()
    circumstances = keyed("k", registry.admin)
    change = {"label": "mac", "allowed_sites": ("blog",), "call": circumstances}
    first = await registry.as_admin(SetAllowedSites, **change)
    await registry.as_admin(SetAllowedSites, label="mac", allowed_sites=("docs",))
    assert await registry.as_admin(SetAllowedSites, **change) == first
    assert (await registry.agents())[0].allowed_sites == ("docs",)
    # But not once the certificate is nobody's any more.
    await registry.as_admin(RotateAdmin)
    repeated = SetAllowedSites(credential=certificate(registry.admin), **change)
    assert await registry.code(repeated) is ErrorCode.CREDENTIAL_REFUSED


async def test_a_revoked_agent_is_nobody_and_its_label_is_free(registry: Dialogue) -> None:
    await registry.create()
    agent = await registry.fingerprint()
    revoked = await registry.as_admin(RevokeAgent, label="mac")
    assert revoked.revoked
    assert not await registry.is_agent(agent)
    assert await registry.resolve(agent) is None
    for command in (RevokeAgent, DownloadAgentBundle):
        with pytest.raises(CertwireError) as gone:
            await registry.as_admin(command, label="mac")
        assert gone.value.code is ErrorCode.NOT_FOUND
        assert gone.value.parameters == {"label": "mac"}
    kept = "SELECT count(*) FROM registry.agent_certificate WHERE pkcs12 IS NOT NULL"
    assert await registry.tables.values(kept) == [0]
    await registry.eventually_revoked(agent)
    assert await registry.issued() == [(agent, "privilege_withdrawn")]
    again = await registry.create()
    assert await registry.agents() == [revoked, again.agent]
    assert not await registry.is_agent(agent)


async def test_the_same_revocation_at_once_happens_once(registry: Dialogue) -> None:
    await registry.create()
    replies = await asyncio.gather(
        *(registry.as_admin(RevokeAgent, label="mac") for _ in range(10)), return_exceptions=True
    )
    codes = [r.code for r in replies if isinstance(r, CertwireError)]
    assert codes == [ErrorCode.NOT_FOUND] * 9
    assert (await registry.events()).count("agent.revoked") == 1


async def test_no_request_that_begins_after_a_revocation_succeeds(registry: Dialogue) -> None:
    await registry.create()
    agent = await registry.fingerprint()
    revoked = asyncio.Event()

    async def ask() -> None:
        while True:
            began_after = revoked.is_set()
            accepted = await registry.is_agent(agent)
            assert not (accepted and began_after)
            if began_after:
                return

    askers = [asyncio.create_task(ask()) for _ in range(8)]
    await asyncio.sleep(0.1)
    await registry.as_admin(RevokeAgent, label="mac")
    revoked.set()
    await asyncio.gather(*askers)


async def test_an_agent_that_enrolled_has_nothing_to_download(registry: Dialogue) -> None:
    await registry.enrolled()
    with pytest.raises(CertwireError) as nothing:
        await registry.as_admin(DownloadAgentBundle, label="mac")
    assert nothing.value.code is ErrorCode.NOT_FOUND


async def test_refusals_name_the_agent_that_tried(registry: Dialogue) -> None:
    await registry.create()
    agent = await registry.fingerprint()
    tried = SetCapabilities(
        call=call(), credential=certificate(agent), label="mac", capabilities=(READ, WRITE)
    )
    assert await registry.code(tried) is ErrorCode.FORBIDDEN
    [(kind, name, action)] = await registry.tables.run(
        "SELECT entry::json->'actor'->>'kind', entry::json->'actor'->>'name',"
        " entry::json->>'action' FROM registry.outbox WHERE entry::json->>'outcome' = 'refused'"
    )
    assert (kind, name, action) == ("agent", "mac", "agent_set_capabilities")


async def test_the_list_is_paged_and_stays_fast_with_10000_agents(registry: Dialogue) -> None:
    await registry.create()
    await registry.tables.run(MANY_AGENTS)
    await registry.tables.run("ANALYZE registry.agent, registry.agent_certificate")
    began, pages, cursor = time.monotonic(), [], None
    while True:
        page: AgentPage = await registry.as_admin(ListAgents, limit=500, cursor=cursor)
        pages.append(len(page.agents))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert pages == [500] * 20
    assert time.monotonic() - began < 10
    began = time.monotonic()
    await registry.create("again")
    await registry.as_admin(RevokeAgent, label="again")
    assert await registry.is_agent(await registry.fingerprint("mac"))
    assert time.monotonic() - began < 5
    asked = [["certificate"], [registry.admin], OVERLAP]
    for query, arguments in ((store.PAGE, [9_000, 500]), (credentials.RESOLVE, asked)):
        plan = await _plan(registry, query, arguments)
        assert "Seq Scan on agent" not in plan, plan
        assert "Sort Key: agent" not in plan, plan


async def _plan(registry: Dialogue, query: str, arguments: list[Any]) -> str:
    async with registry.registry.runtime.database.connection() as connection:
        rows = await connection.fetch(f"EXPLAIN {query}", *arguments)
    return "\n".join(row[0] for row in rows)


async def test_a_forged_cursor_is_refused(registry: Dialogue) -> None:
    sent = ListAgents(call=call(), credential=certificate(registry.admin), limit=1, cursor="x")
    assert await registry.code(sent) is ErrorCode.INVALID_REQUEST


async def test_no_secret_is_written_in_the_clear(registry: Dialogue) -> None:
    created = await registry.create()
    token = await registry.token("other")
    await registry.send(registry.enrolment(token.token, csr_pem(), key="k"))
    rotated = await registry.as_admin(RotateAdmin)
    stored = await registry.everything_stored()
    for secret in (created.p12_password, token.token, rotated.p12_password):
        assert len(secret) >= 32
        assert secret not in stored
    assert registry.admin_password not in stored
    assert "PRIVATE KEY" not in stored
