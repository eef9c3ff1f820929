"""An agent renews itself; see `issuance` for the steps and `domain.renewal` for what is decided."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import assert_never
from uuid import UUID

from contracts.agents import Enrolled, RenewAgent
from contracts.certificates import RevocationReason, SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.events import AgentRenewed
from contracts.issuer import SignAgentCertificate
from contracts.principal import Credential, Principal
from services.registry.domain.agents import check_csr_size
from services.registry.domain.permissions import authorise
from services.registry.domain.renewal import Presented, Step, next_step
from services.registry.handlers.agents import audit_object
from services.registry.identity import admit
from services.registry.issuance import (
    agent_subject,
    in_turn,
    record_claim,
    signing_call,
    undone_on_failure,
)
from services.registry.service import Registry
from services.registry.store import agent_certificates, agents, claims
from services.registry.store.agent_certificates import NewestCertificate, PresentedCertificate
from shared import idempotency
from shared.database import Connection
from shared.identifiers import uuid7
from shared.unit_of_work import UnitOfWork
from shared.x509 import parse_csr


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A certificate that may be signed: under a claim, or it was already."""

    agent: Principal
    claim_id: UUID
    public_key_sha256: str
    signed: SignedCertificate | None = None


async def renew_agent(command: RenewAgent, registry: Registry) -> Enrolled:
    """Sign a new key; the presented certificate stays good until the new one is used."""
    check_csr_size(command.csr_pem)
    public_key = cache(lambda: parse_csr(command.csr_pem).public_key_sha256)
    claimed = await in_turn(command.call, partial(_claim, command, registry, public_key))
    if claimed.signed is not None:
        ca_pem = await registry.platform_cas.pem(command.call)
        return Enrolled(label=claimed.agent.name, certificate=claimed.signed, ca_pem=ca_pem)
    async with undone_on_failure(registry, claimed.claim_id):
        certificate: SignedCertificate = await registry.request(
            SignAgentCertificate(
                call=signing_call(command.call),
                claim_id=claimed.claim_id,
                actor=claimed.agent,
                csr_pem=command.csr_pem,
                label=claimed.agent.name,
                renews=claimed.agent.fingerprint,
            )
        )
        ca_pem = await registry.platform_cas.pem(command.call)
        enrolled = Enrolled(label=claimed.agent.name, certificate=certificate, ca_pem=ca_pem)
        return await _record(command, registry, claimed, enrolled)


async def _claim(
    command: RenewAgent, registry: Registry, public_key: Callable[[], str]
) -> _Claimed | None:
    """Claim the certificate, or find the one that was signed; None while another is at it."""
    key = command.call.idempotency
    async with registry.runtime.database.transaction() as connection:
        presented = await _present(command, registry, connection)
        agent, subject = presented.principal, agent_subject(presented.principal.name)
        try:
            claimed = _Claimed(agent, uuid7(), public_key())
        except CertwireError as invalid:
            if not presented.accepted:  # nothing but its successor's key is looked at
                raise CertwireError(ErrorCode.CREDENTIAL_REFUSED, actor=agent) from None
            raise CertwireError(invalid.code, invalid.detail, actor=agent) from None
        if key is not None:
            await idempotency.refuse_or_answer(connection, key)
        successor = await _successor(connection, presented)
        is_pending = await claims.is_pending(connection, subject)
        step = next_step(_facts(presented, successor, is_pending), claimed.public_key_sha256, agent)
        match step:
            case Step.WAIT:
                return None
            case Step.REPEAT:
                assert successor is not None  # noqa: S101 - there is something to repeat
                return replace(claimed, signed=successor.certificate)
            case Step.SIGN:
                request_id = command.call.request_id
                made = await claims.insert(connection, claimed.claim_id, request_id, subject)
                return claimed if made else None
            case _:
                assert_never(step)


def _facts(
    presented: PresentedCertificate,
    successor: NewestCertificate | None,
    is_pending: bool,  # noqa: FBT001 - handed on
) -> Presented:
    return Presented(
        accepted=presented.accepted,
        successor_public_key_sha256=successor.public_key_sha256 if successor else None,
        successor_age=successor.age if successor else None,
        claim_pending=is_pending,
    )


async def _successor(
    connection: Connection, presented: PresentedCertificate
) -> NewestCertificate | None:
    if not presented.has_successor:
        return None
    return await agent_certificates.newest(connection, presented.agent_id)


async def _present(
    command: RenewAgent, registry: Registry, connection: Connection
) -> PresentedCertificate:
    """Return what is known of the presented certificate, its agent locked.

    Raises as `identity.admit` does, but for a certificate that was superseded and has ended: the
    same key may still fetch its successor with it.
    """
    presented = await _locked(connection, command.credential)
    if presented is None or not presented.has_successor or presented.accepted:
        await admit(registry, connection, command)
    assert presented is not None  # noqa: S101 - whoever may renew is an agent
    authorise(presented.principal, command)
    return presented


async def _locked(
    connection: Connection, credential: Credential | None
) -> PresentedCertificate | None:
    """Return what is known of an agent's certificate, in the lock of its agent."""
    if credential is None:
        return None
    known = await agent_certificates.presented(connection, credential.sha256)
    if known is None:
        return None
    await agents.lock_by_id(connection, known.agent_id)
    return await agent_certificates.presented(connection, credential.sha256)


async def _record(
    command: RenewAgent, registry: Registry, claimed: _Claimed, enrolled: Enrolled
) -> Enrolled:
    """Make the certificate the agent's newest; the presented one is its predecessor."""
    certificate = enrolled.certificate
    async with registry.runtime.unit_of_work(command) as work:
        presented = await _locked(work.connection, command.credential)
        if presented is None or not presented.accepted:
            raise CertwireError(ErrorCode.CREDENTIAL_REFUSED, actor=claimed.agent)
        await record_claim(work.connection, claimed.claim_id)
        agent_id, renews = presented.agent_id, presented.fingerprint
        replaced = await _revoke_unused(work, presented)
        await agent_certificates.supersede(work.connection, renews, certificate.fingerprint)
        await agent_certificates.insert(
            work.connection,
            agent_id,
            claimed.claim_id,
            certificate,
            public_key_sha256=claimed.public_key_sha256,
            predecessor=renews,
        )
        await agents.renew(work.connection, agent_id, certificate.fingerprint)
        work.record(
            presented.principal,
            "agent_renew",
            audit_object(await agents.get(work.connection, agent_id)),
            event=AgentRenewed(
                label=enrolled.label,
                fingerprint=certificate.fingerprint,
                serial_hex=certificate.serial_hex,
            ),
            detail={
                "fingerprint": certificate.fingerprint,
                "renews": renews,
                "replaced": replaced,
            },
        )
        return await work.answer(enrolled)


async def _revoke_unused(work: UnitOfWork, presented: PresentedCertificate) -> str | None:
    """Revoke the newest certificate where it was never used; return its fingerprint."""
    newest = await agent_certificates.newest(work.connection, presented.agent_id)
    if newest is None or newest.certificate.fingerprint == presented.fingerprint:
        return None
    unused = newest.certificate.fingerprint
    await agent_certificates.revoke(
        work.connection,
        presented.agent_id,
        RevocationReason.SUPERSEDED,
        presented.principal,
        work.request_id,
        unused,
    )
    return unused
