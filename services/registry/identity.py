"""Who sends a command, resolved in the transaction that acts; there is no cache.

1. Before the platform is initialised there is nobody to ask (`NOT_INITIALISED`).
2. A certificate is presented (`CREDENTIAL_MISSING`).
3. It is the administrator's or an agent's, and counts now (`CREDENTIAL_REFUSED`).
4. Whoever it stands for may send the command (`FORBIDDEN`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import Credential, Principal
from services.registry.domain.permissions import authorise
from services.registry.service import Registry
from services.registry.store import agent_certificates, credentials, platform
from services.registry.store.credentials import UNKNOWN, Resolved
from shared import outbox
from shared.database import Connection
from shared.unit_of_work import UnitOfWork

NOT_INITIALISED: Final = "the platform is not initialised"


async def admit(registry: Registry, connection: Connection, command: Command[Any]) -> Principal:
    """Return who sends the command, by its `credential`: the steps above."""
    credential: Credential | None = getattr(command, "credential", None)
    resolved = UNKNOWN
    if credential is not None:
        [resolved] = await credentials.resolve(connection, [credential])
    if not resolved.accepted or resolved.principal is None:
        await require_initialised(connection)  # 1
        if credential is None:
            raise CertwireError(ErrorCode.CREDENTIAL_MISSING)  # 2
        raise CertwireError(ErrorCode.CREDENTIAL_REFUSED, actor=resolved.principal)  # 3
    await note_use(registry, connection, resolved, command.call.request_id)
    authorise(resolved.principal, command)  # 4
    return resolved.principal


async def require_initialised(connection: Connection) -> None:
    """Raise `NOT_INITIALISED` before `certwire init` has made administrator and superuser."""
    if not await platform.is_initialised(connection):
        raise CertwireError(ErrorCode.NOT_INITIALISED, NOT_INITIALISED)


async def note_use(
    registry: Registry, connection: Connection, resolved: Resolved, request_id: str
) -> None:
    """End the predecessor of a renewed certificate with its first use, before it is answered."""
    agent, predecessor = resolved.principal, resolved.predecessor
    if predecessor is None or agent is None or agent.fingerprint is None:
        return
    row = superseded_row(registry, agent, predecessor, agent, request_id)
    await agent_certificates.use_first(
        connection, agent.fingerprint, predecessor, agent, request_id, row
    )
    registry.runtime.backlog.nudge()
    registry.to_tell.set()


def superseded_row(
    registry: Registry, agent: Principal, fingerprint: str, actor: Principal, request_id: str
) -> outbox.OutboxRow:
    """Return the audit record of the end of an agent's superseded certificate."""
    return outbox.outbox_row(
        registry.runtime.service,
        request_id,
        actor,
        "cert_supersede",
        AuditObject(type="certificate", id=fingerprint, name=""),
        detail={"label": agent.name, "superseded_by": agent.fingerprint},
    )


@asynccontextmanager
async def acting(
    registry: Registry, command: Command[Any]
) -> AsyncIterator[tuple[UnitOfWork, Principal]]:
    """Open the transaction of a command with whoever sends it.

    With an Idempotency-Key they are judged before it too: a kept answer is for nobody who could
    not ask now.
    """
    if command.call.idempotency is not None:
        async with registry.runtime.database.connection() as connection:
            await admit(registry, connection, command)
    async with registry.runtime.unit_of_work(command) as work:
        yield work, await admit(registry, work.connection, command)


@asynccontextmanager
async def acting_alone(
    registry: Registry, command: Command[Any]
) -> AsyncIterator[tuple[UnitOfWork, Principal]]:
    """Open the transaction of a change of users or organisations: of these there is one at a time.

    Whoever asks is judged before they wait, so that nobody is held up by strangers, and after it:
    what they waited for may have changed them.
    """
    async with acting(registry, command) as (work, _):
        await platform.lock(work.connection)
        yield work, await admit(registry, work.connection, command)


async def admit_reader(registry: Registry, command: Command[Any]) -> Principal:
    """Return who sends a command that needs nothing else of the database."""
    async with registry.runtime.database.connection() as connection:
        return await admit(registry, connection, command)
