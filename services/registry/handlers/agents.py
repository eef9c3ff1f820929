"""What the administrator does with agents, and what agents ask about themselves."""

from functools import partial
from uuid import UUID

from contracts.agents import (
    Agent,
    AgentPage,
    AuthorizeAgent,
    AuthorizedAgent,
    Bundle,
    CreateAgent,
    CreatedAgent,
    DownloadAgentBundle,
    EnrollmentMethod,
    GetOwnAgent,
    ListAgents,
    RevokeAgent,
    SetAllowedSites,
    SetCapabilities,
)
from contracts.audit import AuditObject
from contracts.certificates import RevocationReason
from contracts.errors import CertwireError, ErrorCode
from contracts.events import (
    AgentCapabilitiesChanged,
    AgentCreated,
    AgentRevoked,
    AgentSitesChanged,
)
from contracts.issuer import GenerateAgentBundle, SignedBundle
from contracts.principal import Principal
from services.registry import bundles
from services.registry.domain.agents import (
    checked_capabilities,
    checked_sites,
    first_page,
    is_authorised,
)
from services.registry.identity import acting, admit, admit_reader
from services.registry.issuance import (
    agent_subject,
    in_turn,
    record_claim,
    signing_call,
    undone_on_failure,
)
from services.registry.service import Registry
from services.registry.store import agent_certificates, agents, claims
from services.registry.store.agents import KnownAgent
from shared import cursors, idempotency
from shared.database import Connection
from shared.identifiers import uuid7


async def create_agent(command: CreateAgent, registry: Registry) -> CreatedAgent:
    """Make an agent with a bundle; see `issuance` for the steps."""
    capabilities = checked_capabilities(command.capabilities)
    allowed_sites = checked_sites(command.allowed_sites)
    claim_id = uuid7()
    actor = await in_turn(command.call, partial(_claim_creation, command, registry, claim_id))
    async with undone_on_failure(registry, claim_id):
        made: SignedBundle = await registry.request(
            GenerateAgentBundle(
                call=signing_call(command.call), claim_id=claim_id, actor=actor, label=command.label
            )
        )
        certificate = made.certificate
        async with acting(registry, command) as (work, actor):
            await record_claim(work.connection, claim_id)
            agent_id = await agents.insert(
                work.connection,
                command.label,
                capabilities,
                allowed_sites,
                EnrollmentMethod.P12,
                certificate.fingerprint,
            )
            if agent_id is None:
                raise taken(command.label, actor)
            sealed = bundles.seal(registry.sealer, bundles.AGENT_TABLE, made)
            await agent_certificates.insert(
                work.connection, agent_id, claim_id, certificate, bundle=sealed
            )
            agent = await agents.get(work.connection, agent_id)
            work.record(
                actor,
                "agent_create",
                audit_object(agent),
                event=AgentCreated(
                    label=command.label,
                    fingerprint=certificate.fingerprint,
                    serial_hex=certificate.serial_hex,
                ),
                detail={
                    "fingerprint": certificate.fingerprint,
                    "capabilities": list(capabilities),
                    "allowed_sites": list(allowed_sites),
                },
            )
            created = CreatedAgent(agent=agent.shown, p12_password=made.password)
            return await work.answer(created, secret=True)


async def _claim_creation(
    command: CreateAgent, registry: Registry, claim_id: UUID
) -> Principal | None:
    """Return who asks once the label's next certificate is claimed for them.

    The claim comes first: what it had to wait for is there when the rest is looked at.
    """
    call, subject = command.call, agent_subject(command.label)
    async with registry.runtime.database.transaction() as connection:
        actor = await admit(registry, connection, command)
        claimed = await claims.insert(connection, claim_id, call.request_id, subject)
        if call.idempotency is not None:
            await idempotency.refuse_or_answer(connection, call.idempotency)
        await require_free(connection, command.label, actor)
        return actor if claimed else None


async def require_free(connection: Connection, label: str, actor: Principal | None) -> None:
    """Raise `ALREADY_EXISTS` where the label has an active agent."""
    if await agents.is_active(connection, label):
        raise taken(label, actor)


def taken(label: str, actor: Principal | None) -> CertwireError:
    """Return the refusal of a label that has an active agent."""
    return CertwireError(ErrorCode.ALREADY_EXISTS, parameters={"label": label}, actor=actor)


def audit_object(agent: KnownAgent) -> AuditObject:
    """Return the agent as an audit record names it."""
    return AuditObject(type="agent", id=agent.shown.label, name=agent.shown.label)


async def list_agents(command: ListAgents, registry: Registry) -> AgentPage:
    """Return a page of agents, revoked ones included, in the order of their creation."""
    after = cursors.decode(command.cursor) or 0
    async with registry.runtime.database.connection() as connection:
        await admit(registry, connection, command)
        found = await agents.page(connection, command.limit + 1, after)
    kept = found[: first_page([agent.shown for agent in found], command.limit)]
    return AgentPage(
        agents=tuple(agent.shown for agent in kept),
        next_cursor=cursors.encode(kept[-1].id) if len(kept) < len(found) else None,
    )


async def download_agent_bundle(command: DownloadAgentBundle, registry: Registry) -> Bundle:
    """Return the bundle of an active agent."""
    async with acting(registry, command) as (work, actor):
        agent = await _active(work.connection, command.label, actor)
        sealed = await agent_certificates.bundle(work.connection, agent.id)
        if sealed is None:
            raise _unknown(command.label, actor)
        pkcs12 = bundles.unseal(registry.sealer, bundles.AGENT_TABLE, sealed, legacy=command.legacy)
        work.record(
            actor,
            "agent_download",
            audit_object(agent),
            detail={
                "fingerprint": sealed.fingerprint,
                "format": "legacy" if command.legacy else "pkcs12",
            },
        )
        return await work.answer(Bundle(pkcs12=pkcs12), secret=True)


async def set_capabilities(command: SetCapabilities, registry: Registry) -> Agent:
    """Replace what an active agent may do."""
    capabilities = checked_capabilities(command.capabilities)
    async with acting(registry, command) as (work, actor):
        before = await _active(work.connection, command.label, actor)
        await agents.set_capabilities(work.connection, before.id, capabilities)
        agent = before.shown.model_copy(update={"capabilities": capabilities})
        changed = AgentCapabilitiesChanged(
            label=agent.label,
            fingerprint=before.fingerprint,
            serial_hex=agent.serial_hex,
            capabilities=capabilities,
        )
        work.record(
            actor,
            "agent_set_capabilities",
            audit_object(before),
            event=changed if before.shown != agent else None,
            detail={"from": list(before.shown.capabilities), "to": list(capabilities)},
        )
        return await work.answer(agent)


async def set_allowed_sites(command: SetAllowedSites, registry: Registry) -> Agent:
    """Replace the sites of an active agent."""
    allowed_sites = checked_sites(command.allowed_sites)
    async with acting(registry, command) as (work, actor):
        before = await _active(work.connection, command.label, actor)
        await agents.set_allowed_sites(work.connection, before.id, allowed_sites)
        agent = before.shown.model_copy(update={"allowed_sites": allowed_sites})
        changed = AgentSitesChanged(
            label=agent.label,
            fingerprint=before.fingerprint,
            serial_hex=agent.serial_hex,
            allowed_sites=allowed_sites,
        )
        work.record(
            actor,
            "agent_set_sites",
            audit_object(before),
            event=changed if before.shown != agent else None,
            detail={"from": list(before.shown.allowed_sites), "to": list(allowed_sites)},
        )
        return await work.answer(agent)


async def revoke_agent(command: RevokeAgent, registry: Registry) -> Agent:
    """Revoke an active agent: no request that begins after this commit succeeds."""
    async with acting(registry, command) as (work, actor):
        agent = await _active(work.connection, command.label, actor)
        await claims.void_subject(work.connection, agent_subject(command.label))
        await agents.revoke(work.connection, agent.id)
        await agent_certificates.revoke(
            work.connection,
            agent.id,
            RevocationReason.PRIVILEGE_WITHDRAWN,
            actor,
            work.request_id,
        )
        work.record(
            actor,
            "agent_revoke",
            audit_object(agent),
            event=AgentRevoked(
                label=command.label,
                fingerprint=agent.fingerprint,
                serial_hex=agent.shown.serial_hex,
            ),
            detail={"fingerprint": agent.fingerprint},
        )
        reply = await work.answer(agent.shown.model_copy(update={"revoked": True}))
    registry.to_tell.set()
    return reply


async def _active(connection: Connection, label: str, actor: Principal) -> KnownAgent:
    agent = await agents.lock(connection, label)
    if agent is None:
        raise _unknown(label, actor)
    return agent


def _unknown(label: str, actor: Principal) -> CertwireError:
    return CertwireError(ErrorCode.NOT_FOUND, parameters={"label": label}, actor=actor)


async def get_own_agent(command: GetOwnAgent, registry: Registry) -> Agent:
    """Return the agent that asks, with serial and end of the certificate that it presents."""
    async with registry.runtime.database.connection() as connection:
        principal = await admit(registry, connection, command)
        agent = await agents.get(connection, int(principal.id))
        presented = await agent_certificates.presented(connection, principal.fingerprint or "")
    assert presented is not None  # noqa: S101 - it was admitted
    return agent.shown.model_copy(
        update={"serial_hex": presented.serial_hex, "expires_at": presented.not_after}
    )


async def authorize_agent(command: AuthorizeAgent, registry: Registry) -> AuthorizedAgent:
    """Say whether the agent may do what it is about to do with a service behind."""
    agent = await admit_reader(registry, command)
    if not is_authorised(agent, command.capability, command.site):
        raise CertwireError(ErrorCode.FORBIDDEN, actor=agent)
    return AuthorizedAgent(label=agent.name)
