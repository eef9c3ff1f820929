"""Enrolment: tokens, and the certificates that agents get for them; see `issuance` for the steps.

A token that a claim holds is as good as spent: of many enrolments at once one gets the certificate.
It is spent by the transaction that records the certificate, so that nothing that fails burns it.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Final
from uuid import UUID

from contracts.agents import (
    CancelEnrollmentToken,
    CancelledToken,
    CreateEnrollmentToken,
    EnrollAgent,
    Enrolled,
    EnrollmentMethod,
    EnrollmentToken,
)
from contracts.audit import AuditObject
from contracts.certificates import SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.events import AgentEnrolled, TokenCancelled, TokenConsumed, TokenCreated
from contracts.issuer import SignAgentCertificate
from contracts.principal import ANONYMOUS, Principal, PrincipalKind
from services.registry.domain.agents import check_csr_size, checked_capabilities, checked_sites
from services.registry.domain.permissions import authorise
from services.registry.domain.sessions import counted_address
from services.registry.handlers.agents import audit_object, require_free, taken
from services.registry.identity import acting, require_initialised
from services.registry.issuance import (
    agent_subject,
    in_turn,
    record_claim,
    signing_call,
    undone_on_failure,
)
from services.registry.service import Registry
from services.registry.store import agent_certificates, agents, claims
from services.registry.store import enrollment_tokens as tokens
from services.registry.store.credentials import agent_principal
from services.registry.store.enrollment_tokens import Token
from shared import idempotency
from shared.database import Connection
from shared.identifiers import uuid7
from shared.secrets import token_hash
from shared.x509 import parse_csr

TOKEN_BYTES: Final = 32
"""The rulings' number, in hex."""


async def create_enrollment_token(
    command: CreateEnrollmentToken, registry: Registry
) -> EnrollmentToken:
    """Make a token for a label that is free and has none."""
    capabilities = checked_capabilities(command.capabilities)
    allowed_sites = checked_sites(command.allowed_sites)
    token = secrets.token_hex(TOKEN_BYTES)
    async with acting(registry, command) as (work, actor):
        await require_free(work.connection, command.label, actor)
        expires_at = await tokens.insert(
            work.connection, token_hash(token), command.label, capabilities, allowed_sites
        )
        if expires_at is None:
            raise CertwireError(
                ErrorCode.TOKEN_PENDING, parameters={"label": command.label}, actor=actor
            )
        work.record(
            actor,
            "token_create",
            _audit_object(command.label),
            event=TokenCreated(label=command.label, expires_at=expires_at),
            detail={"capabilities": list(capabilities), "allowed_sites": list(allowed_sites)},
        )
        made = EnrollmentToken(label=command.label, token=token, expires_at=expires_at)
        return await work.answer(made, secret=True)


async def cancel_enrollment_token(
    command: CancelEnrollmentToken, registry: Registry
) -> CancelledToken:
    """Make the label's pending token worthless."""
    async with acting(registry, command) as (work, actor):
        if not await tokens.cancel(work.connection, command.label):
            raise CertwireError(
                ErrorCode.NOT_FOUND, parameters={"label": command.label}, actor=actor
            )
        work.record(
            actor,
            "token_cancel",
            _audit_object(command.label),
            event=TokenCancelled(label=command.label),
        )
        return await work.answer(CancelledToken(label=command.label))


def _audit_object(label: str) -> AuditObject:
    return AuditObject(type="token", id=label, name=label)


@dataclass(frozen=True, slots=True)
class _Claimed:
    """What an enrolment may have signed; `agent` is its label's future agent."""

    claim_id: UUID
    token: Token
    public_key_sha256: str

    @property
    def agent(self) -> Principal:
        return Principal(kind=PrincipalKind.AGENT, id="", name=self.token.label)


async def enroll_agent(command: EnrollAgent, registry: Registry) -> Enrolled:
    """Exchange a token for a certificate.

    The order of checks: the CSR's size, the token is known, unused, unexpired, the CSR is valid,
    the label is free.
    """
    authorise(ANONYMOUS, command)
    await _require_patience(command, registry)
    check_csr_size(command.csr_pem)
    public_key = cache(lambda: parse_csr(command.csr_pem).public_key_sha256)
    try:
        claimed = await in_turn(command.call, partial(_claim, command, registry, public_key))
    except CertwireError as error:
        if error.code is ErrorCode.TOKEN_UNKNOWN:
            await _count_failure(command, registry)
        raise
    async with undone_on_failure(registry, claimed.claim_id):
        certificate: SignedCertificate = await registry.request(
            SignAgentCertificate(
                call=signing_call(command.call),
                claim_id=claimed.claim_id,
                actor=claimed.agent,
                csr_pem=command.csr_pem,
                label=claimed.token.label,
            )
        )
        ca_pem = await registry.platform_cas.pem(command.call)
        return await _record(command, registry, claimed, certificate, ca_pem)


async def _require_patience(command: EnrollAgent, registry: Registry) -> None:
    """Raise `NOT_INITIALISED`, and `RATE_LIMITED` for an address that guesses."""
    async with registry.runtime.database.connection() as connection:
        await require_initialised(connection)
        wait = await tokens.wait_seconds(
            connection,
            counted_address(command.call.source_address),
            registry.unknown_tokens_per_minute,
        )
    if wait is not None:
        raise CertwireError(
            ErrorCode.RATE_LIMITED, "too many unknown tokens", retry_after_seconds=max(1, wait)
        )


async def _count_failure(command: EnrollAgent, registry: Registry) -> None:
    async with registry.runtime.database.statement() as connection:
        await tokens.count_failure(connection, counted_address(command.call.source_address))


async def _claim(
    command: EnrollAgent, registry: Registry, public_key: Callable[[], str]
) -> _Claimed | None:
    """Claim the certificate; None while a first request with the same key, or label, is at it."""
    key, hashed, claim_id = command.call.idempotency, token_hash(command.token), uuid7()
    async with registry.runtime.database.transaction() as connection:
        token = await tokens.lock(connection, hashed)
        if key is not None:  # after the lock, which a first request may just have given back
            await idempotency.refuse_or_answer(connection, key)
            if token is not None and token.claimed and not token.consumed:
                return None
        _check(token)
        assert token is not None  # noqa: S101 - it was checked
        public_key_sha256 = public_key()
        subject, request_id = agent_subject(token.label), command.call.request_id
        claimed = await claims.insert(connection, claim_id, request_id, subject)
        await require_free(connection, token.label, None)
        if not claimed:
            return None
        await tokens.hold(connection, hashed, claim_id)
    return _Claimed(claim_id, token, public_key_sha256)


def _check(token: Token | None) -> None:
    if token is None:
        raise CertwireError(ErrorCode.TOKEN_UNKNOWN)
    if token.consumed or token.claimed:
        raise CertwireError(ErrorCode.TOKEN_USED)
    if token.expired:
        raise CertwireError(ErrorCode.TOKEN_EXPIRED)


async def _record(
    command: EnrollAgent,
    registry: Registry,
    claimed: _Claimed,
    certificate: SignedCertificate,
    ca_pem: str,
) -> Enrolled:
    """Make the label's agent and spend the token."""
    token = claimed.token
    async with registry.runtime.unit_of_work(command) as work:
        await _consume(work.connection, command, claimed)
        agent_id = await agents.insert(
            work.connection,
            token.label,
            token.capabilities,
            token.allowed_sites,
            EnrollmentMethod.HARDWARE_BOUND,
            certificate.fingerprint,
        )
        if agent_id is None:
            raise taken(token.label, None)
        await agent_certificates.insert(
            work.connection,
            agent_id,
            claimed.claim_id,
            certificate,
            public_key_sha256=claimed.public_key_sha256,
        )
        actor = agent_principal(agent_id, token.label, certificate.fingerprint)
        work.record(
            actor,
            "token_consume",
            _audit_object(token.label),
            event=TokenConsumed(label=token.label),
        )
        work.record(
            actor,
            "agent_enroll",
            audit_object(await agents.get(work.connection, agent_id)),
            event=AgentEnrolled(
                label=token.label,
                fingerprint=certificate.fingerprint,
                serial_hex=certificate.serial_hex,
            ),
            detail={
                "fingerprint": certificate.fingerprint,
                "capabilities": list(token.capabilities),
                "allowed_sites": list(token.allowed_sites),
            },
        )
        enrolled = Enrolled(label=token.label, certificate=certificate, ca_pem=ca_pem)
        return await work.answer(enrolled)


async def _consume(connection: Connection, command: EnrollAgent, claimed: _Claimed) -> None:
    """Spend token and claim. Raises `TOKEN_UNKNOWN` where the token was cancelled meanwhile."""
    if not await tokens.consume(connection, token_hash(command.token), claimed.claim_id):
        raise CertwireError(ErrorCode.TOKEN_UNKNOWN)
    await record_claim(connection, claimed.claim_id)
