"""The sweeper: voids claims that nobody ends, and tells the issuer until it confirms."""

import asyncio
import logging
from typing import Final
from uuid import UUID

from contracts.audit import Actor
from contracts.certificates import RevocationReason
from contracts.issuer import Revocation, RevokeInstanceCertificates, VoidInstanceClaims
from contracts.messages import PAGE_LIMIT
from contracts.principal import Principal, PrincipalKind
from services.instance.handlers.certificates import void_claims
from services.instance.service import Instances
from services.instance.store import instances as store
from services.instance.store import renewals
from services.instance.store.renewals import Untold

LOG: Final = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 0.5
FORGET_EVERY_SECONDS: Final = 60.0


async def sweep(instances: Instances) -> None:
    """Sweep for as long as the process lives; several replicas may do it at once."""
    while True:
        told = await void_overdue(instances)
        told += await tell_voided(instances)
        told += await tell_revoked(instances)
        if told < PAGE_LIMIT:
            await asyncio.sleep(INTERVAL_SECONDS)


async def forget(instances: Instances) -> None:
    """Drop windows of failed bootstraps that ended."""
    while True:
        async with instances.runtime.database.statement() as connection:
            await store.forget_bootstrap_failures(connection)
        await asyncio.sleep(FORGET_EVERY_SECONDS)


async def void_overdue(instances: Instances) -> int:
    """Void claims that are pending for too long; return how many."""
    async with instances.runtime.database.connection() as connection:
        overdue = await renewals.overdue_claims(
            connection, instances.settings.claim_lifetime, PAGE_LIMIT
        )
    if overdue:
        await void_claims(instances, overdue)
    return len(overdue)


async def tell_voided(instances: Instances) -> int:
    """Have the issuer revoke what it signed under voided claims; return how many."""
    runtime = instances.runtime
    async with runtime.database.connection() as connection:
        claims: list[UUID] = await renewals.untold_claims(connection, PAGE_LIMIT)
    if claims:
        await runtime.bus.request(
            VoidInstanceClaims(call=runtime.own_call(), claim_ids=tuple(claims))
        )
        async with runtime.database.statement() as connection:
            await renewals.claims_told(connection, claims)
    return len(claims)


async def tell_revoked(instances: Instances) -> int:
    """Have the issuer record revocations that are committed here; return how many."""
    runtime = instances.runtime
    async with runtime.database.connection() as connection:
        untold = await renewals.untold_revocations(connection, PAGE_LIMIT)
    if untold:
        recorded = await runtime.bus.request(
            RevokeInstanceCertificates(
                call=runtime.own_call(), revocations=tuple(_revocation(row) for row in untold)
            )
        )
        if recorded.refused:
            LOG.error("the issuer does not know certificates", extra={"refused": recorded.refused})
        async with runtime.database.statement() as connection:
            await renewals.revocations_told(connection, [row.fingerprint for row in untold])
    return len(untold)


def _revocation(row: Untold) -> Revocation:
    actor = Actor.model_validate_json(row.revoked_by)
    return Revocation(
        fingerprint=row.fingerprint,
        reason=RevocationReason(row.reason),
        detail=row.detail,
        revoked_at=row.revoked_at,
        actor=Principal(
            kind=PrincipalKind(actor.kind),
            id=actor.id,
            name=actor.name,
            fingerprint=actor.fingerprint,
            organization_id=actor.organization_id,
        ),
        request_id=row.request_id,
    )
