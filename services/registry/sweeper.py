"""What the registry does by itself: it voids overdue claims and tells the issuer, until confirmed.

The registry's commit decides; the issuer is told again and again, in batches, and records each
revocation once.
"""

import asyncio
from contextlib import suppress
from typing import Final

from contracts.issuer import RevokeRegistryCertificates, VoidRegistryClaims
from contracts.messages import PAGE_LIMIT
from services.registry.service import Registry
from services.registry.store import admin_certificates, claims, sessions

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
    database = registry.runtime.database
    async with database.transaction() as connection:
        await claims.void_overdue(connection)
        claim_ids = await claims.untold(connection, PAGE_LIMIT)
        revocations = await admin_certificates.untold(connection, PAGE_LIMIT)
    if claim_ids:
        call = registry.runtime.own_call()
        await registry.request(VoidRegistryClaims(call=call, claim_ids=tuple(claim_ids)))
        async with database.transaction() as connection:
            await claims.mark_told(connection, claim_ids)
    if revocations:
        call = registry.runtime.own_call()
        await registry.request(
            RevokeRegistryCertificates(call=call, revocations=tuple(revocations))
        )
        async with database.transaction() as connection:
            await admin_certificates.mark_told(connection, [r.fingerprint for r in revocations])


async def prune(registry: Registry) -> None:
    """Forget what is over, for as long as the process lives."""
    while True:
        async with registry.runtime.database.transaction() as connection:
            await sessions.prune(connection)
        await asyncio.sleep(PRUNE_SECONDS)
