"""Certificates under claims: claim → sign → record.

1. A pending claim is committed; there is one at a time for an agent's label.
2. The issuer signs under the claim; it refuses one that was voided.
3. One transaction records the certificate and the claim, with what it changes.
4. Only then is it answered.

A crash after 1 or 2 leaves the claim pending: the sweeper voids it after 30 s, and what was signed
is revoked as undelivered. A failure does the same at once.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar
from uuid import UUID

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Call
from services.registry.service import Registry
from services.registry.store import claims
from shared.database import Connection
from shared.idempotency import ANSWER_SECONDS, AnsweredBefore

SIGNING_SECONDS: Final = 10.0
"""What the issuer gets at most; well below the 30 s after which a claim is voided."""
POLL_SECONDS: Final = 0.05

ResultT = TypeVar("ResultT")


def agent_subject(label: str) -> str:
    """Return what the claims of an agent's certificates are for."""
    return f"agent:{label}"


def signing_call(call: Call) -> Call:
    """Return the circumstances of a command to the issuer on behalf of `call`."""
    deadline = min(call.deadline, time.time() + SIGNING_SECONDS)
    return call.model_copy(update={"deadline": deadline, "idempotency": None})


async def in_turn(call: Call, attempt: Callable[[], Awaitable[ResultT | None]]) -> ResultT:
    """Return what `attempt` does once it is not None, which says that another request is at it.

    Raises `IDEMPOTENCY_IN_PROGRESS` for a repeat, else `CONFLICT`, where the other takes too long.
    """
    while (result := await attempt()) is None:
        if time.time() > call.deadline - ANSWER_SECONDS:
            if call.idempotency is not None:
                raise CertwireError(ErrorCode.IDEMPOTENCY_IN_PROGRESS)
            raise CertwireError(ErrorCode.CONFLICT, "another certificate is being made for it")
        await asyncio.sleep(POLL_SECONDS)
    return result


@asynccontextmanager
async def undone_on_failure(registry: Registry, claim_id: UUID) -> AsyncIterator[None]:
    """Void the claim where the block fails; the sweeper does where that fails too."""
    try:
        yield
    except (CertwireError, AnsweredBefore):
        with suppress(CertwireError):
            async with registry.runtime.database.statement() as connection:
                await claims.void(connection, claim_id)
            registry.to_tell.set()
        raise


async def record_claim(connection: Connection, claim_id: UUID) -> None:
    """Note that the certificate is recorded: first of all in step 3.

    Raises `CLAIM_VOIDED` where it took too long: nothing has changed then.
    """
    if not await claims.record(connection, claim_id):
        raise CertwireError(ErrorCode.CLAIM_VOIDED, "it took too long and was undone")
