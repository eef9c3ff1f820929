"""Preflights: what would be in the way of an order."""

import asyncio
import time
from typing import Final

from contracts.acme import CheckIssuance, Preflight
from contracts.errors import CertwireError, ErrorCode
from services.acme import preflight
from services.acme.domain.orders import require_orderable
from services.acme.domain.permissions import authorise
from services.acme.handlers.access import project, project_object
from services.acme.service import Acme
from shared import idempotency

ANSWER_SECONDS: Final = 1.0
"""What is kept of the caller's time, so that they hear of it."""
RETRY_SECONDS: Final = 10


async def check_issuance(command: CheckIssuance, acme: Acme) -> Preflight:
    """Try everything that an order needs. No transaction is open meanwhile."""
    authorise(command.actor, command)
    key = command.call.idempotency
    async with acme.runtime.database.connection() as connection:
        if key is not None:
            await idempotency.refuse_or_answer(connection, key)
        found = await project(connection, command)
    domain = require_orderable(found.domain, command.issuance, command.actor)
    if acme.preflights.locked():
        raise CertwireError(
            ErrorCode.RATE_LIMITED,
            "Too many preflights at the same time",
            retry_after_seconds=RETRY_SECONDS,
            actor=command.actor,
        )
    async with acme.preflights:
        try:
            async with asyncio.timeout(command.call.deadline - time.time() - ANSWER_SECONDS):
                checks = await preflight.check(acme, domain, command.issuance)
        except TimeoutError:
            raise CertwireError(
                ErrorCode.OUTCOME_UNKNOWN, "The checks took too long", actor=command.actor
            ) from None
    async with acme.runtime.unit_of_work(command) as work:
        work.record(
            command.actor,
            "cert_preflight",
            project_object(found),
            detail={
                "domain": domain,
                "challenge_type": command.issuance.challenge_type,
                "failed": [each.name for each in checks if not each.ok],
            },
        )
        return await work.answer(Preflight(checks=checks))
