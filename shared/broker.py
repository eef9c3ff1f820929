"""NATS for a service: commands and replies on one connection, streams on another.

The rules of every connection: it never stops reconnecting, a process whose connection is closed
for good ends, and every failure is answered with an error reply.
"""

import asyncio
import logging
import os
import signal
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

import nats.errors
from faststream.exceptions import IncorrectState
from faststream.nats import NatsBroker
from faststream.nats.message import NatsMessage
from faststream.nats.security import NatsNKey
from faststream.nats.subscriber.usecases import CoreSubscriber
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from opentelemetry.trace import SpanKind
from prometheus_client import Histogram
from pydantic import ValidationError

from contracts.errors import CertwireError, ErrorCode, ErrorReply
from contracts.messages import Call, Command, Message
from shared import telemetry
from shared.idempotency import AnsweredBefore
from shared.identifiers import uuid7
from shared.settings import Settings

LOG: Final = logging.getLogger(__name__)

ERROR_HEADER: Final = "Certwire-Error"
MOST_AT_ONCE: Final = 256
"""Commands that one process works on at the same time; the rest wait."""
FINISH_SECONDS: Final = 1.5
"""How long a service that stops waits for the commands in work."""
CLOSE_SECONDS: Final = 0.5
"""How long it then waits for NATS."""
BUS_UNAVAILABLE: Final = "the message bus is unavailable"

COMMANDS: Final = Histogram(
    "certwire_command_seconds",
    "Time from a command's arrival to its reply",
    ["subject", "outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)

ReplyT = TypeVar("ReplyT", bound=Message)
Handler: TypeAlias = Callable[[Any], Awaitable[Message]]
Refused: TypeAlias = Callable[[Command[Any], CertwireError], Awaitable[None]]


def nats_broker(settings: Settings, user: str, account: str, **options: Any) -> NatsBroker:  # noqa: ANN401 - FastStream's own options
    """Return a broker as `user` of `account` (bus, streams or readers), not yet connected."""

    async def closed() -> None:
        if not stopping.is_set():
            LOG.critical("the NATS connection is closed for good", extra={"account": account})
            os.kill(os.getpid(), signal.SIGTERM)

    async def error(problem: Exception) -> None:
        LOG.warning("NATS", extra={"account": account, "problem": repr(problem)})

    stopping = asyncio.Event()
    context = (
        ssl.create_default_context(cafile=settings.nats_ca_file) if settings.nats_ca_file else None
    )
    broker = NatsBroker(
        settings.nats_url,
        name=f"certwire-{user}",
        security=NatsNKey(settings.secrets / f"nats-{user}-{account}.seed", ssl_context=context),
        inbox_prefix=f"_INBOX_{user}",
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        connect_timeout=5,
        pending_size=16 * 1024 * 1024,
        apply_types=False,
        closed_cb=closed,
        error_cb=error,
        graceful_timeout=FINISH_SECONDS,
        log_level=logging.DEBUG,
        **options,
    )
    broker.stopping = stopping  # type: ignore[attr-defined]  # read by `close` alone
    return broker


async def connect(broker: NatsBroker) -> Client:
    """Connect, waiting for a server that is not there yet; return the connection."""
    while True:
        try:
            return await broker.connect()
        except (nats.errors.Error, OSError, TimeoutError) as problem:
            LOG.warning("waiting for NATS", extra={"problem": repr(problem)})
            await asyncio.sleep(0.5)


async def close(broker: NatsBroker) -> None:
    """Send what is left and close, whether NATS is there or not."""
    broker.stopping.set()  # type: ignore[attr-defined]  # set by `nats_broker`
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await broker.stop()
    except Exception as problem:  # noqa: BLE001 - it is going anyway
        LOG.info("NATS is away", extra={"problem": repr(problem)})
        with suppress(Exception):  # uvloop's transports raise RuntimeError, too
            async with asyncio.timeout(CLOSE_SECONDS):
                await broker.connection.close()


def is_connected(broker: NatsBroker) -> bool:
    """Return whether NATS is there now."""
    try:
        return broker.connection.is_connected
    except IncorrectState:  # not yet, or no longer
        return False


def own_call(seconds: float = 10.0, request_id: str | None = None) -> Call:
    """Return the circumstances of a command that a service sends by itself."""
    return Call(request_id=request_id or str(uuid7()), deadline=time.time() + seconds)


class Bus:
    """Commands out and in, over the connection of one broker."""

    def __init__(self, service: str, broker: NatsBroker) -> None:
        self._service = service
        self._broker = broker
        self._subscriptions: list[Subscription] = []
        self._subscribers: list[CoreSubscriber] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    @property
    def is_connected(self) -> bool:
        """Return whether NATS is there now."""
        return is_connected(self._broker)

    async def request(self, command: Command[ReplyT], subject: str | None = None) -> ReplyT:
        """Send a command and return its reply, by its deadline.

        Raises what the service raised, `UNAVAILABLE` where no service listens or NATS is away,
        `OUTCOME_UNKNOWN` where no reply came, and `INVALID_REQUEST` for text that is none.
        """
        timeout = command.call.deadline - time.time()
        if timeout <= 0:
            raise CertwireError(ErrorCode.OUTCOME_UNKNOWN)
        if not self.is_connected:  # the client would send it after the reconnect, late or too late
            raise CertwireError(ErrorCode.UNAVAILABLE, BUS_UNAVAILABLE)
        subject = subject or command.SUBJECT
        try:
            with telemetry.span(subject, SpanKind.CLIENT):
                message = await self._broker.connection.request(
                    subject, _payload(command), timeout=timeout
                )
        except nats.errors.NoRespondersError:
            raise CertwireError(
                ErrorCode.UNAVAILABLE, f"the {subject.split('.')[1]} service is unavailable"
            ) from None
        except (nats.errors.TimeoutError, TimeoutError):
            raise CertwireError(ErrorCode.OUTCOME_UNKNOWN) from None
        except (nats.errors.Error, OSError) as error:
            raise CertwireError(ErrorCode.UNAVAILABLE, BUS_UNAVAILABLE) from error
        if message.headers and ERROR_HEADER in message.headers:
            raise CertwireError.from_reply(ErrorReply.model_validate_json(message.data))
        return command.REPLY.model_validate_json(message.data)  # type: ignore[return-value]  # REPLY is the class of ReplyT

    async def serve(
        self,
        handlers: Mapping[type[Command[Any]], Handler],
        *,
        direct: frozenset[type[Command[Any]]] = frozenset(),
        refused: Refused | None = None,
        admit: Callable[[], bool] = lambda: True,
    ) -> None:
        """Answer commands, each in a task of its own.

        Those in `direct` are subscribed on the connection itself: FastStream's own path costs as
        much as signing does. `refused` is told of errors before they are replied; while `admit`
        says no, commands that change something are refused with `OVERLOADED`.
        """
        for command, handler in handlers.items():
            subject = command.SUBJECT
            binding = _Binding(self._service, command, subject, handler, refused, admit)
            if command in direct:
                await self._subscribe(subject, binding)
            else:
                subscriber = self._broker.subscriber(
                    subject, self._service, no_reply=True, decoder=undecoded
                )
                subscriber(self._hand_on_decoded(binding))
                self._subscribers.append(subscriber)
        await self._broker.start()
        await flushed(self._broker.connection)

    async def _subscribe(self, subject: str, binding: "_Binding") -> None:
        self._subscriptions.append(
            await self._broker.connection.subscribe(
                subject, queue=self._service, cb=self._hand_on(binding)
            )
        )

    def _hand_on(self, binding: "_Binding") -> Callable[[Msg], Awaitable[None]]:
        async def hand_on(message: Msg) -> None:
            task = asyncio.create_task(self._work(binding, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return hand_on

    def _hand_on_decoded(self, binding: "_Binding") -> Callable[[Msg], Awaitable[None]]:
        hand_on = self._hand_on(binding)

        async def handle(message: Msg) -> None:
            await hand_on(message)

        return handle

    async def _work(self, binding: "_Binding", message: Msg) -> None:
        try:
            async with self._room:
                data, headers = await binding.answer(message.data)
            if len(data) > self._broker.connection.max_payload:
                LOG.error("a reply is too large", extra={"subject": message.subject})
                data, headers = _error(CertwireError(ErrorCode.INTERNAL))
            if message.reply:
                await self._broker.connection.publish(message.reply, data, headers=headers)
        except (nats.errors.Error, OSError) as problem:
            LOG.warning("a reply was lost", extra={"problem": repr(problem)})

    async def serve_own(self, command: type[Command[Any]], subject: str, handler: Handler) -> None:
        """Answer one of the commands that every service has, on its own subject, in any state."""
        binding = _Binding(self._service, command, subject, handler, None, lambda: True)
        await self._subscribe(subject, binding)
        await flushed(self._broker.connection)

    async def finish(self) -> None:
        """Take no more commands, and let those in work end, for 1.5 seconds at most."""
        with suppress(TimeoutError, nats.errors.Error, IncorrectState):
            async with asyncio.timeout(FINISH_SECONDS):
                await self._unsubscribe()
                while self._tasks:
                    await asyncio.wait(self._tasks)
        for task in self._tasks:
            task.cancel()

    async def _unsubscribe(self) -> None:
        """Tell the server, and take what it sent before it knew; others would drop that."""
        of_faststream = [subscriber.subscription for subscriber in self._subscribers]
        for subscription in (*self._subscriptions, *of_faststream):
            if subscription is not None:
                await self._broker.connection._send_unsubscribe(subscription._id)  # noqa: SLF001 - its `drain` drops what comes late
        await flushed(self._broker.connection)


async def flushed(client: Client) -> None:
    """Return once the server knows everything; one `flush` overtakes what waits to be sent."""
    await client.flush()
    await client.flush()


class _Binding:
    """A command's way through its handler to the bytes of its reply."""

    def __init__(
        self,
        service: str,
        command: type[Command[Any]],
        subject: str,
        handler: Handler,
        refused: Refused | None,
        admit: Callable[[], bool],
    ) -> None:
        self._service = service
        self._command = command
        self._subject = subject
        self._handler = handler
        self._refused = refused
        self._admit = admit

    async def answer(self, data: bytes) -> tuple[bytes, dict[str, str] | None]:
        """Return payload and headers of the reply."""
        began = time.perf_counter()
        try:
            command = self._command.model_validate_json(data)
        except ValidationError:
            LOG.exception("a malformed command", extra={"subject": self._subject})
            return _error(CertwireError(ErrorCode.INTERNAL))
        telemetry.request_id.set(command.call.request_id)
        try:
            with telemetry.span(self._subject, SpanKind.SERVER, command.call.traceparent):
                outcome, reply, headers = await self._outcome(command)
        except Exception:
            LOG.exception("a command failed", extra={"subject": self._subject})
            outcome = str(ErrorCode.INTERNAL)
            reply, headers = _error(CertwireError(ErrorCode.INTERNAL))
        COMMANDS.labels(self._subject, outcome).observe(time.perf_counter() - began)
        return reply, headers

    async def _outcome(self, command: Command[Any]) -> tuple[str, bytes, dict[str, str] | None]:
        """Return how it went in a word, and payload and headers of the reply."""
        try:
            reply = await self._run(command)
        except AnsweredBefore as earlier:
            return "repeated", earlier.reply.encode(), None
        except CertwireError as error:
            return str(error.code), *_error(error)
        return "ok", reply.model_dump_json().encode(), None

    async def _run(self, command: Command[Any]) -> Message:
        if command.call.deadline < time.time():
            raise CertwireError(ErrorCode.OUTCOME_UNKNOWN)
        if command.ACTION is not None and not self._admit():
            raise CertwireError(ErrorCode.OVERLOADED, retry_after_seconds=5)
        try:
            return await self._handler(command)
        except CertwireError as error:
            if self._refused is not None:
                await self._refused(command, error)
            raise


async def undecoded(message: NatsMessage) -> Msg:
    """Return the message itself: FastStream's decoder for handlers that read it on their own."""
    raw = message.raw_message
    assert isinstance(raw, Msg)  # noqa: S101 - core NATS delivers one message at a time
    return raw


def _payload(command: Command[Any]) -> bytes:
    traceparent = telemetry.current_traceparent()
    if traceparent is not None:
        call = command.call.model_copy(update={"traceparent": traceparent})
        command = command.model_copy(update={"call": call})
    try:
        return command.model_dump_json().encode()
    except ValueError as error:
        raise CertwireError(
            ErrorCode.INVALID_REQUEST, "text may not hold half a surrogate pair"
        ) from error


def _error(error: CertwireError) -> tuple[bytes, dict[str, str]]:
    return error.reply().model_dump_json().encode(), {ERROR_HEADER: str(error.code)}
