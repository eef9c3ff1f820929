"""What the registry does by itself: it ends what is overdue and tells the issuer, until confirmed.

The registry's commit decides; the issuer is told again and again, in batches, and records each
revocation once.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from contracts.certificates import RevocationReason
from contracts.issuer import RecordedRevocations, RevokeRegistryCertificates, VoidRegistryClaims
from contracts.messages import PAGE_LIMIT
from services.registry.identity import superseded_row
from services.registry.service import Registry
from services.registry.store import (
    agent_certificates,
    agents,
    claims,
    enrollment_tokens,
    revocations,
    sessions,
)
from services.registry.store.credentials import agent_principal
from shared import outbox
from shared.identifiers import uuid7

LOG: Final = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 2.0
PRUNE_SECONDS: Final = 600.0


async def tell_issuer(registry: Registry) -> None:
    """Sweep for as long as the process lives."""
    while True:
        registry.to_tell.clear()
        await sweep(registry)
        with suppress(TimeoutError):
            async with asyncio.timeout(SWEEP_SECONDS):
                await registry.to_tell.wait()


async def sweep(registry: Registry) -> None:
    """Do what is to be done now. Raises what the issuer raised."""
    await end_superseded(registry)
    database = registry.runtime.database
    async with database.transaction() as connection:
        await claims.void_overdue(connection)
        claim_ids = await claims.untold(connection, PAGE_LIMIT)
        untold = await revocations.untold(connection, PAGE_LIMIT)
    if claim_ids:
        call = registry.runtime.own_call()
        await registry.request(VoidRegistryClaims(call=call, claim_ids=tuple(claim_ids)))
        async with database.transaction() as connection:
            await claims.mark_told(connection, claim_ids)
    if untold:
        call = registry.runtime.own_call()
        recorded: RecordedRevocations = await registry.request(
            RevokeRegistryCertificates(call=call, revocations=tuple(untold))
        )
        if recorded.refused:
            LOG.error("the issuer does not know certificates", extra={"refused": recorded.refused})
        async with database.transaction() as connection:
            await revocations.mark_told(connection, [r.fingerprint for r in untold])


async def end_superseded(registry: Registry) -> None:
    """Revoke agents' certificates whose successor was not used within the overlap."""
    runtime = registry.runtime
    async with runtime.database.connection() as connection:
        overdue = await agent_certificates.overdue(connection, PAGE_LIMIT)
    for agent_id, fingerprint in overdue:
        async with runtime.database.transaction() as connection:
            await agents.lock_by_id(connection, agent_id)
            if not await agent_certificates.is_overdue(connection, fingerprint):
                continue  # renewed once more, revoked, or ended by another replica
            agent = await agents.get(connection, agent_id)
            request_id = str(uuid7())
            await agent_certificates.revoke(
                connection,
                agent_id,
                RevocationReason.SUPERSEDED,
                runtime.principal,
                request_id,
                fingerprint,
            )
            await agent_certificates.forget_predecessor(connection, agent_id, fingerprint)
            principal = agent_principal(agent_id, agent.shown.label, agent.fingerprint)
            row = superseded_row(registry, principal, fingerprint, runtime.principal, request_id)
            await outbox.append(connection, [row])
        runtime.backlog.nudge()


async def prune(registry: Registry) -> None:
    """Forget what is over, for as long as the process lives."""
    while True:
        async with registry.runtime.database.transaction() as connection:
            await sessions.prune(connection)
            await enrollment_tokens.prune(connection)
        await asyncio.sleep(PRUNE_SECONDS)
