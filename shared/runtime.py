"""What every service runs on: database, connections, relay, operations port, start and stop.

A service's `app.py` builds a `Runtime`, binds its handlers, and `run` does the rest:

1. connect to NATS and answer `status` from the first moment,
2. wait until nothing is missing (schema, clock, the service's own needs),
3. take commands, run the relay and the service's own background work,
4. on SIGTERM or SIGINT: take no more, finish what is in work, leave.
"""

import asyncio
import gc
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

import uvloop
from faststream.nats import NatsBroker
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from contracts.audit import Actor, AuditObject, Outcome
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Call, Command, Message
from contracts.outbox import GetOutboxHead, OutboxHead, outbox_subject
from contracts.principal import ANONYMOUS, Credential, Principal, system
from contracts.status import GetStatus, StatusReport, status_subject
from contracts.subjects import Service
from shared import VERSION, idempotency, inbox, outbox, telemetry
from shared.broker import Bus, Handler, close, connect, is_connected, nats_broker, own_call
from shared.clock import utc_now
from shared.database import LOST, Database, clock
from shared.http_server import HttpServer, listen
from shared.identifiers import uuid7
from shared.migrations import schema_problem
from shared.outbox import Backlog
from shared.refusals import BUDGET, KNOWN_BUDGET, RefusalBudget
from shared.relay import Relay
from shared.settings import Settings
from shared.unit_of_work import UnitOfWork, unit_of_work

LOG: Final = logging.getLogger(__name__)

CLOCK_TOLERANCE_SECONDS: Final = 5.0
"""More than this between our clock and the database's, and the service is not ready."""
SEQUENCED_SECONDS: Final = 0.01
"""How often it is looked whether the relay has given rows their place: it takes a few ms."""
COUNT_SECONDS: Final = 5.0
"""How often refusals over a caller's budget are looked through."""
NOT_REFUSALS: Final = frozenset(
    {
        ErrorCode.INTERNAL,
        ErrorCode.UNAVAILABLE,
        ErrorCode.OUTCOME_UNKNOWN,
        ErrorCode.OVERLOADED,
        ErrorCode.CREDENTIAL_MISSING,
    }
)

Background = Callable[[], Awaitable[None]]
"""Work that goes on for as long as the process lives; it is begun again where it fails."""


class Runtime:
    """The parts of a service that are the same in each. Made by `open`, ended by `close`."""

    def __init__(
        self,
        service: Service,
        settings: Settings,
        database: Database,
        bus_broker: NatsBroker,
        streams_broker: NatsBroker,
    ) -> None:
        self.service: Final = service
        self.settings: Final = settings
        self.database: Final = database
        self.bus: Final = Bus(service, bus_broker)
        self.bus_broker: Final = bus_broker
        self.streams_broker: Final = streams_broker
        self.backlog: Final = Backlog(settings.outbox_limit)
        self.principal: Final = system(service)
        self._refusals = RefusalBudget()

    @classmethod
    async def open(cls, service: Service, settings: Settings) -> "Runtime":
        """Return the runtime of a service that is about to start."""
        return cls(
            service,
            settings,
            await Database.open(settings, service),
            nats_broker(settings, service, "bus"),
            nats_broker(settings, service, "streams"),
        )

    @asynccontextmanager
    async def unit_of_work(self, command: Command[Any]) -> AsyncIterator[UnitOfWork]:
        """Open the transaction of a command; see `shared.unit_of_work`."""
        async with unit_of_work(self.service, self.database, self.backlog, command) as work:
            yield work

    def own_call(self, seconds: float = 10.0, request_id: str | None = None) -> Call:
        """Return the circumstances of a command that the service sends by itself."""
        return own_call(seconds, request_id)

    async def record_refusal(self, command: Command[Any], error: CertwireError) -> None:
        """Record that a command was refused, as far as the caller's budget goes."""
        if error.code in NOT_REFUSALS or command.PUBLIC:
            return
        noun, verb = command.SUBJECT.split(".")[2:4]
        await self.refuse(
            command.call.source_address or "",
            error.actor or _who(command),
            command.ACTION or f"{noun}_{verb}",
            AuditObject(type=command.audit_object()[0], id=command.audit_object()[1], name=""),
            error.code,
            command.call.request_id,
        )

    async def refuse(
        self,
        address: str,
        actor: Principal | Actor,
        action: str,
        object: AuditObject,  # noqa: A002 - the field's name in the record
        code: ErrorCode,
        request_id: str,
    ) -> None:
        """Record one refusal, or count it where the caller has spent its budget."""
        caller, budget = (
            (f"{actor.kind}:{actor.id}", KNOWN_BUDGET) if actor.id else (address, BUDGET)
        )
        if not self._refusals.spend(caller, action, time.monotonic(), budget):
            return
        row = outbox.outbox_row(
            self.service,
            request_id,
            actor,
            action,
            object,
            outcome=Outcome.REFUSED,
            detail={"code": str(code), "address": address},
        )
        with suppress(CertwireError):  # the refusal stands even where it can't be recorded
            async with self.database.transaction() as connection:
                await outbox.append(connection, [row])
            self.backlog.nudge()

    async def count_refusals(self) -> None:
        """Write one record a minute for what went over a caller's budget."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            counted = self._refusals.collect(time.monotonic())
            rows = [
                outbox.outbox_row(
                    self.service,
                    str(uuid7()),
                    ANONYMOUS,
                    action,
                    AuditObject(type="caller", id=caller, name=""),
                    outcome=Outcome.REFUSED,
                    detail={"caller": caller, "count": count},
                )
                for (caller, action), count in counted.items()
            ]
            if rows:
                async with self.database.transaction() as connection:
                    await outbox.append(connection, rows)
                self.backlog.nudge()

    async def prune(self) -> None:
        """Forget answers and message ids that nobody repeats any more."""
        while True:
            async with self.database.transaction() as connection:
                await connection.execute(idempotency.PRUNE, idempotency.KEPT_HOURS)
                await connection.execute(inbox.PRUNE, inbox.KEPT_DAYS)
            await asyncio.sleep(600)

    async def outbox_head(self, command: GetOutboxHead) -> OutboxHead:
        """Say up to which sequence everything goes that is committed by now."""
        last = 2**63 - 1
        while command.call.deadline > time.time():
            async with self.database.connection() as connection:
                sequence, waiting = await outbox.head(connection, last)
            if waiting is None:
                return OutboxHead(sequence=sequence)
            last = waiting
            self.backlog.nudge()
            await asyncio.sleep(SEQUENCED_SECONDS)
        raise CertwireError(ErrorCode.OUTCOME_UNKNOWN)

    async def problems(self) -> list[str]:
        """Return what is missing for the service to work."""
        missing: list[str] = []
        try:
            async with self.database.connection() as connection:
                if problem := await schema_problem(connection, self.service):
                    missing.append(problem)
                difference = utc_now() - await clock(connection)
                if abs(difference.total_seconds()) > CLOCK_TOLERANCE_SECONDS:
                    missing.append("the clock differs from the database's")
        except (CertwireError, *LOST):
            missing.append("postgres")
        if not (is_connected(self.bus_broker) and is_connected(self.streams_broker)):
            missing.append("nats")
        return missing

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(
            close(self.bus_broker), close(self.streams_broker), self.database.close()
        )


@dataclass
class Application:
    """A service, ready to run: what it answers and what it does by itself.

    `prepare` runs once the schema is there and before the first command; `problems` adds to what
    keeps the service from being ready; `warnings` to what `certwire status` shows; `finish` comes
    last, before the connections are closed.
    """

    runtime: Runtime
    handlers: Mapping[type[Command[Any]], Handler]
    direct: frozenset[type[Command[Any]]] = frozenset()
    prepare: Background | None = None
    background: Sequence[Background] = ()
    problems: Callable[[], Awaitable[list[str]]] | None = None
    warnings: Callable[[], Awaitable[list[str]]] | None = None
    finish: Background | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _waits_for: list[str] = field(default_factory=lambda: ["the start"])

    async def status(self, _command: GetStatus | None = None) -> StatusReport:
        """Say how the service is."""
        missing = await self.runtime.problems() or self._waits_for
        if self.problems is not None and not missing:
            missing = await self.problems()
        return StatusReport(
            service=self.runtime.service,
            version=VERSION,
            ready=not missing,
            missing=tuple(missing),
            outbox_waiting=self.runtime.backlog.waiting,
            warnings=tuple(await self.warnings()) if self.warnings and not missing else (),
        )

    async def start(self) -> None:
        """Take part: returns once commands are taken."""
        runtime = self.runtime
        await connect(runtime.bus_broker)
        streams = await connect(runtime.streams_broker)
        await runtime.bus.serve_own(GetStatus, status_subject(runtime.service), self.status)
        await self._until_ready()
        relay = Relay(runtime.service, runtime.database, streams, runtime.backlog)
        for work in (
            relay.run,
            relay.watch_backlog,
            runtime.count_refusals,
            runtime.prune,
            *self.background,
        ):
            self._tasks.append(asyncio.create_task(_forever(work)))
        await runtime.streams_broker.start()
        head = outbox_subject(runtime.service)
        await runtime.bus.serve_own(GetOutboxHead, head, runtime.outbox_head)
        await runtime.bus.serve(
            self.handlers,
            direct=self.direct,
            refused=runtime.record_refusal,
            admit=lambda: not runtime.backlog.full,
        )
        self._waits_for = []
        LOG.info("ready", extra={"version": VERSION})

    async def stop(self) -> None:
        """Finish what is in work and leave."""
        await self.runtime.bus.finish()
        await cancel(self._tasks)
        if self.finish is not None:
            await self.finish()
        await self.runtime.close()

    async def _until_ready(self) -> None:
        while True:
            missing = await self.runtime.problems()
            if not missing and self.prepare is not None:
                try:
                    await self.prepare()
                except CertwireError as error:
                    missing = [error.detail or str(error.code)]
            if not missing:
                return
            if missing != self._waits_for:
                LOG.warning("not ready", extra={"missing": missing})
                self._waits_for = missing
            await asyncio.sleep(0.25)


async def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """End the tasks, asking as often as it takes: nats-py swallows a cancellation now and then.

    It waits for replies with `asyncio.wait_for`, which does so on Python 3.11.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.1)


async def _forever(work: Background) -> None:
    while True:
        try:
            await work()
        except CertwireError as error:
            LOG.warning("background work failed", extra={"work": str(work), "problem": str(error)})
        except Exception:
            LOG.exception("background work failed", extra={"work": str(work)})
        await asyncio.sleep(1)


def bind(
    handlers: Mapping[type[Command[Any]], Callable[[Any, Any], Awaitable[Message]]], service: object
) -> dict[type[Command[Any]], Handler]:
    """Return the handlers with the service that they act on."""
    return {command: partial(_call, handler, service) for command, handler in handlers.items()}


async def _call(
    handler: Callable[[Any, Any], Awaitable[Message]], service: object, command: Command[Any]
) -> Message:
    return await handler(command, service)


def _who(command: Command[Any]) -> Principal | Actor:
    """Return who sent the command, as far as it says."""
    principal = getattr(command, "principal", None) or getattr(command, "actor", None)
    if isinstance(principal, Principal):
        return principal
    credential = getattr(command, "credential", None)
    if isinstance(credential, Credential):
        return Actor(kind="unknown", id="", name="", fingerprint=credential.sha256)
    return ANONYMOUS


def operations_server(settings: Settings, status: Callable[[], Awaitable[Message]]) -> HttpServer:
    """Return the server of metrics and details, for operators only."""

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def alive(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_request: Request) -> Response:
        report = await status()
        body = report.model_dump(mode="json")
        return JSONResponse(body, 200 if body["ready"] else 503)

    routes = [Route("/metrics", metrics), Route("/healthz", alive), Route("/readyz", ready)]
    listener = listen(settings.ops_host, settings.ops_port)
    return HttpServer(Starlette(routes=routes), listener)


class Program(Protocol):
    """What `run` runs: an `Application`, or the gateway, which has no database."""

    async def status(self) -> StatusReport: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def run(build: Callable[[], Awaitable[Program]], service: Service, settings: Settings) -> None:
    """Run a service in this process until it is told to stop."""
    telemetry.set_up(service, settings)
    try:
        uvloop.run(_run(build, settings))
    finally:
        telemetry.shut_down()
        gc.freeze()  # the interpreter's end would look through all that is there for garbage


async def _run(build: Callable[[], Awaitable[Program]], settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    application = await build()
    operations = operations_server(settings, application.status)
    operations.start()
    LOG.info("starting", extra={"version": VERSION, "operations_port": operations.port})
    starting = asyncio.create_task(application.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
    finally:
        LOG.info("stopping")
        stopping.cancel()
        await cancel([starting])
        await asyncio.gather(operations.stop(), application.stop())
