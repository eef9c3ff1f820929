"""One message, one transaction: state, outbox rows and idempotency row together."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import JsonValue

from contracts.audit import Actor, AuditObject, Outcome
from contracts.events import Event
from contracts.messages import Command, Message
from contracts.principal import Principal
from contracts.subjects import Service
from shared import idempotency, outbox
from shared.database import Connection, Database
from shared.outbox import Backlog, OutboxRow

ReplyT = TypeVar("ReplyT", bound=Message)


class UnitOfWork:
    """What a handler does within its transaction."""

    def __init__(self, service: Service, connection: Connection, command: Command[Any]) -> None:
        self.connection = connection
        self._service = service
        self._command = command
        self._rows: list[OutboxRow] = []
        self._answered = False

    @property
    def request_id(self) -> str:
        """Return the request that this serves."""
        return self._command.call.request_id

    def record(
        self,
        actor: Principal | Actor,
        action: str,
        object: AuditObject,  # noqa: A002 - the field's name in the record
        *,
        event: Event | None = None,
        outcome: Outcome = Outcome.SUCCESS,
        detail: dict[str, JsonValue] | None = None,
        request_id: str | None = None,
    ) -> None:
        """Write an audit record, and the event that goes with it, when the transaction commits."""
        self._rows.append(
            outbox.outbox_row(
                self._service,
                request_id or self._command.call.request_id,
                actor,
                action,
                object,
                outcome=outcome,
                detail=detail,
                event=event,
                traceparent=self._command.call.traceparent,
            )
        )

    async def answer(self, reply: ReplyT, *, secret: bool = False) -> ReplyT:
        """Return the reply, kept for repeats of the request unless it holds a secret."""
        key = self._command.call.idempotency
        if key is not None and not secret:
            await idempotency.keep(self.connection, key, reply)
        self._answered = True
        return reply

    async def flush(self) -> None:
        """Write what was recorded. Raises RuntimeError where the handler forgot to answer."""
        if self._command.call.idempotency is not None and not self._answered:
            raise RuntimeError(
                f"{type(self._command).__name__} was not answered in its transaction"
            )
        if self._rows:
            await outbox.append(self.connection, self._rows)


@asynccontextmanager
async def unit_of_work(
    service: Service, database: Database, backlog: Backlog, command: Command[Any]
) -> AsyncIterator[UnitOfWork]:
    """Open the transaction of a command.

    Raises `AnsweredBefore` and the errors of `idempotency.claim` for a repeated request.
    """
    async with database.transaction() as connection:
        key = command.call.idempotency
        if key is not None:
            await idempotency.claim(connection, key, command.call.deadline - time.time())
        work = UnitOfWork(service, connection, command)
        yield work
        await work.flush()
    backlog.nudge()
