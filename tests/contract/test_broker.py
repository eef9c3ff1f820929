"""Commands over a real NATS: every failure has its answer, and nothing is lost when a part goes."""

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import nats
import pytest
from pydantic import JsonValue

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import CreateInstance, GetInstance, ListInstances, RenewCertificate
from contracts.messages import Call, Command, Message
from contracts.status import GetStatus, StatusReport, status_subject
from contracts.subjects import Service, inbox
from shared import broker as broker_module
from shared.broker import ERROR_HEADER, MOST_AT_ONCE, Bus, close, connect, nats_broker
from shared.idempotency import AnsweredBefore
from shared.settings import Settings
from tests.support.outcomes import refused
from tests.support.servers import NatsServer, Place
from tests.support.streams import nats_alone


class Answer(Message):
    text: str


class Ask(Command[Answer]):
    """On the subject of another, as the permissions are made from the contracts."""

    REPLY: ClassVar[type[Message]] = Answer

    text: str = ""
    more: dict[str, JsonValue] = {}  # noqa: RUF012 - pydantic copies it


class Change(Ask):
    SUBJECT: ClassVar[str] = CreateInstance.SUBJECT
    ACTION: ClassVar[str | None] = "instance_create"


class Read(Ask):
    SUBJECT: ClassVar[str] = ListInstances.SUBJECT


class Hot(Ask):
    SUBJECT: ClassVar[str] = RenewCertificate.SUBJECT
    ACTION: ClassVar[str | None] = "cert_renew"


class Nobodys(Ask):
    SUBJECT: ClassVar[str] = GetInstance.SUBJECT


BOTH = pytest.mark.parametrize("kind", [Change, Hot], ids=["faststream", "direct"])
DIRECT = frozenset({Hot})


def call(seconds: float = 5) -> Call:
    return Call(request_id="request", deadline=time.time() + seconds)


async def echo(command: Ask) -> Answer:
    return Answer(text=command.text)


class Stage:
    """A bus with one service that does what a test says, and its caller."""

    def __init__(self, server: NatsServer, place: Place) -> None:
        self.server = server
        self.settings = place.settings(Settings)
        self.handler: Callable[[Any], Awaitable[Message]] = echo
        self.refusals: list[tuple[Command[Any], CertwireError]] = []
        self.full = False
        self.caller: Bus

    async def answer(self, command: Ask) -> Message:
        return await self.handler(command)

    async def refuse(self, command: Command[Any], error: CertwireError) -> None:
        self.refusals.append((command, error))

    @asynccontextmanager
    async def bus(self, user: str) -> AsyncIterator[Bus]:
        broker = nats_broker(self.settings, user, "bus")
        client = await connect(broker)
        client.options["reconnect_time_wait"] = 0.1
        bus = Bus(user, broker)
        try:
            yield bus
        finally:
            await bus.finish()
            await close(broker)

    @asynccontextmanager
    async def service(self) -> AsyncIterator[Bus]:
        async with self.bus("instance") as bus:
            kinds: tuple[type[Ask], ...] = (Change, Read, Hot)
            await bus.serve(
                dict.fromkeys(kinds, self.answer),
                direct=DIRECT,
                refused=self.refuse,
                admit=lambda: not self.full,
            )
            yield bus

    async def raw(self, subject: str, payload: bytes) -> tuple[str | None, dict[str, Any]]:
        """Send any bytes; return the error of the reply and its body."""
        client = await nats.connect(
            self.server.url,
            nkeys_seed=str(self.settings.secrets / "nats-gateway-bus.seed"),
            inbox_prefix=inbox("gateway").encode(),
        )
        reply = await client.request(subject, payload, timeout=5)
        await client.close()
        return (reply.headers or {}).get(ERROR_HEADER), json.loads(reply.data)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with nats_alone(tmp_path) as (server, place):
        stage = Stage(server, place)
        async with stage.bus("gateway") as stage.caller:
            yield stage


@pytest.fixture
async def service(stage: Stage) -> AsyncIterator[Bus]:
    async with stage.service() as bus:
        yield bus


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the signals that this process sent to itself."""
    signals: list[int] = []
    kill = os.kill

    def note(pid: int, number: int) -> None:
        if pid == os.getpid():
            signals.append(number)
        else:
            kill(pid, number)

    monkeypatch.setattr("os.kill", note)
    return signals


@BOTH
@pytest.mark.usefixtures("service")
async def test_a_command_is_answered(stage: Stage, kind: type[Ask]) -> None:
    assert await stage.caller.request(kind(call=call(), text="Zoë")) == Answer(text="Zoë")


@BOTH
@pytest.mark.usefixtures("service")
async def test_an_error_comes_back_as_it_was_raised(stage: Stage, kind: type[Ask]) -> None:
    async def refuse(_command: Ask) -> Answer:
        raise CertwireError(
            ErrorCode.RATE_LIMITED, "why", retry_after_seconds=7, parameters={"label": "x"}
        )

    stage.handler = refuse
    with refused(ErrorCode.RATE_LIMITED) as caught:
        await stage.caller.request(kind(call=call()))
    assert (caught.value.detail, caught.value.retry_after_seconds) == ("why", 7)
    assert caught.value.parameters == {"label": "x"}
    ((command, error),) = stage.refusals
    assert isinstance(command, kind)
    assert error.code is ErrorCode.RATE_LIMITED


@BOTH
@pytest.mark.usefixtures("service")
async def test_an_unknown_exception_is_opaque_and_logged_whole(
    stage: Stage, kind: type[Ask], caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(_command: Ask) -> Answer:
        raise LookupError("internals")

    stage.handler = crash
    with refused(ErrorCode.INTERNAL) as caught:
        await stage.caller.request(kind(call=call()))
    assert "internals" not in str(caught.value)
    (logged,) = (record for record in caplog.records if record.message == "a command failed")
    assert logged.exc_info is not None
    assert "internals" in str(logged.exc_info[1])
    assert stage.refusals == []


@pytest.mark.usefixtures("service")
async def test_a_reply_that_cannot_be_written_is_our_failure(stage: Stage) -> None:
    async def mumble(_command: Ask) -> Answer:
        return Answer(text="\ud800")

    stage.handler = mumble
    with refused(ErrorCode.INTERNAL):
        await stage.caller.request(Change(call=call()))


@pytest.mark.usefixtures("service")
async def test_a_reply_that_is_too_large_is_our_failure(stage: Stage) -> None:
    async def ramble(_command: Ask) -> Answer:
        return Answer(text="x" * 9_000_000)

    stage.handler = ramble
    with refused(ErrorCode.INTERNAL):
        await stage.caller.request(Change(call=call()))


@pytest.mark.usefixtures("service")
async def test_a_repeat_gets_the_answer_of_then(stage: Stage) -> None:
    async def repeat(_command: Ask) -> Answer:
        raise AnsweredBefore(Answer(text="then").model_dump_json())

    stage.handler = repeat
    assert await stage.caller.request(Change(call=call())) == Answer(text="then")


async def test_no_service_at_all_is_unavailable_at_once(stage: Stage) -> None:
    began = time.monotonic()
    with refused(ErrorCode.UNAVAILABLE) as caught:
        await stage.caller.request(Nobodys(call=call(30)))
    assert caught.value.detail == "the instance service is unavailable"
    assert time.monotonic() - began < 5


@BOTH
@pytest.mark.usefixtures("service")
async def test_no_reply_in_time_leaves_the_outcome_unknown(stage: Stage, kind: type[Ask]) -> None:
    async def dawdle(_command: Ask) -> Answer:
        await asyncio.sleep(1)
        return Answer(text="late")

    stage.handler = dawdle
    began = time.monotonic()
    with refused(ErrorCode.OUTCOME_UNKNOWN):
        await stage.caller.request(kind(call=call(0.3)))
    assert time.monotonic() - began < 0.9


@pytest.mark.usefixtures("service")
async def test_what_nobody_waits_for_is_neither_sent_nor_begun(stage: Stage) -> None:
    begun: list[Ask] = []

    async def begin(command: Ask) -> Answer:
        begun.append(command)
        return Answer(text="")

    stage.handler = begin
    late = Change(call=call(-1))
    with refused(ErrorCode.OUTCOME_UNKNOWN):
        await stage.caller.request(late)
    error, _ = await stage.raw(Change.SUBJECT, late.model_dump_json().encode())
    assert error == "outcome_unknown"
    assert begun == []


@BOTH
@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"\xff", b'{"text": "hunter2"}'])
async def test_a_malformed_command_is_answered_and_its_content_not_logged(
    stage: Stage, kind: type[Ask], payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    error, body = await stage.raw(kind.SUBJECT, payload)
    assert error == body["code"] == "internal"
    assert body["detail"] == ""
    assert "a malformed command" in caplog.text
    assert "hunter2" not in caplog.text
    assert await stage.caller.request(kind(call=call(), text="next")) == Answer(text="next")


@pytest.mark.usefixtures("service")
async def test_an_overloaded_service_takes_no_changes_but_answers_questions(stage: Stage) -> None:
    stage.full = True
    for kind in (Change, Hot):
        with refused(ErrorCode.OVERLOADED) as caught:
            await stage.caller.request(kind(call=call()))
        assert caught.value.retry_after_seconds
    assert await stage.caller.request(Read(call=call(), text="read")) == Answer(text="read")
    stage.full = False
    assert await stage.caller.request(Change(call=call(), text="x")) == Answer(text="x")
    assert stage.refusals == []


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    "content",
    [
        {"text": "\ud800"},
        {"more": {"deep": [{"x": "\udfff"}]}},
    ],
)
async def test_text_that_utf_8_cannot_hold_is_the_callers_mistake(
    stage: Stage, content: dict[str, Any]
) -> None:
    with refused(ErrorCode.INVALID_REQUEST):
        await stage.caller.request(Change(call=call(), **content))


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("text", ["a\0b", "\\u0000", "\x01", "\u2028", "🌳", "\x7f"])
async def test_any_other_text_passes(stage: Stage, text: str) -> None:
    assert await stage.caller.request(Change(call=call(), text=text)) == Answer(text=text)


@BOTH
@pytest.mark.usefixtures("service")
async def test_many_at_once_are_worked_on_at_once_within_a_bound(
    stage: Stage, kind: type[Ask]
) -> None:
    running = most = 0

    async def count(command: Ask) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        return Answer(text=command.text)

    stage.handler = count
    commands = [kind(call=call(20), text=f"{number}") for number in range(MOST_AT_ONCE * 2)]
    replies = await asyncio.gather(*map(stage.caller.request, commands))
    assert [reply.text for reply in replies] == [command.text for command in commands]
    assert 50 < most <= MOST_AT_ONCE


@BOTH
async def test_stopping_finishes_what_is_in_work_and_takes_no_more(
    stage: Stage, kind: type[Ask]
) -> None:
    async def work(command: Ask) -> Answer:
        await asyncio.sleep(0.3)
        return Answer(text=command.text)

    stage.handler = work
    async with stage.service() as bus:
        waiting = [
            asyncio.create_task(stage.caller.request(kind(call=call(), text=f"{number}")))
            for number in range(50)
        ]
        await asyncio.sleep(0.1)
        await bus.finish()
        with refused(ErrorCode.UNAVAILABLE):
            await stage.caller.request(kind(call=call()))
        replies = await asyncio.gather(*waiting)
    assert [reply.text for reply in replies] == [f"{number}" for number in range(50)]


async def test_a_handler_without_end_does_not_hold_up_the_end(stage: Stage) -> None:
    cancelled = asyncio.Event()

    async def hang(_command: Ask) -> Answer:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        raise AssertionError

    stage.handler = hang
    async with stage.service() as bus:
        waiting = asyncio.create_task(stage.caller.request(Change(call=call(3))))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await bus.finish()
    assert time.monotonic() - began < 2.5
    assert cancelled.is_set()
    with refused(ErrorCode.OUTCOME_UNKNOWN):
        await waiting


async def test_a_replica_that_stops_loses_no_command(stage: Stage) -> None:
    async def ask(number: int) -> str:
        await asyncio.sleep(number / 400)
        return (await stage.caller.request(Change(call=call(20), text=f"{number}"))).text

    async with stage.service():
        asking = [asyncio.create_task(ask(number)) for number in range(200)]
        for _ in range(3):
            async with stage.service():
                await asyncio.sleep(0.1)
        assert await asyncio.gather(*asking) == [f"{number}" for number in range(200)]


@pytest.mark.usefixtures("service")
async def test_every_subscription_comes_back_with_nats(stage: Stage) -> None:
    stage.server.stop()
    while stage.caller.is_connected:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    with refused(ErrorCode.UNAVAILABLE):
        await stage.caller.request(Change(call=call(30)))
    assert time.monotonic() - began < 2
    await stage.server.start()
    for kind in (Change, Hot, Read):
        async with asyncio.timeout(20):
            while await outcome(stage, kind) != "back":
                await asyncio.sleep(0.05)


async def outcome(stage: Stage, kind: type[Ask]) -> str:
    try:
        return (await stage.caller.request(kind(call=call(1), text="back"))).text
    except CertwireError as error:
        return str(error.code)


@pytest.mark.usefixtures("service")
async def test_a_connection_lost_while_waiting_leaves_the_outcome_unknown(stage: Stage) -> None:
    began = asyncio.Event()

    async def hang(_command: Ask) -> Answer:
        began.set()
        await asyncio.sleep(0.5)
        return Answer(text="done")

    stage.handler = hang
    waiting = asyncio.create_task(stage.caller.request(Change(call=call(1.5))))
    await began.wait()
    stage.server.stop()
    with refused(ErrorCode.OUTCOME_UNKNOWN):
        await waiting


async def test_a_service_waits_for_a_server_that_is_not_there_yet(stage: Stage) -> None:
    stage.server.stop()
    broker = nats_broker(stage.settings, "registry", "bus")
    connecting = asyncio.create_task(connect(broker))
    await asyncio.sleep(0.3)
    assert not connecting.done()
    assert not broker_module.is_connected(broker)
    await stage.server.start()
    async with asyncio.timeout(15):
        client = await connecting
    assert client.is_connected
    await close(broker)


async def test_closing_without_nats_is_quick_and_no_emergency(
    stage: Stage, killed: list[int]
) -> None:
    broker = nats_broker(stage.settings, "registry", "bus")
    client = await connect(broker)
    stage.server.stop()
    while client.is_connected:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    await close(broker)
    assert time.monotonic() - began < 2
    assert client.is_closed
    assert killed == []
    await close(nats_broker(stage.settings, "registry", "bus"))  # one that never connected


async def test_closing_on_a_server_that_hangs_is_quick(stage: Stage) -> None:
    broker = nats_broker(stage.settings, "registry", "bus")
    await connect(broker)
    assert stage.server.process is not None
    stage.server.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        await close(broker)
        assert time.monotonic() - began < 2
    finally:
        stage.server.process.send_signal(signal.SIGCONT)


async def test_a_process_whose_connection_is_closed_for_good_ends(
    stage: Stage, killed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    broker = nats_broker(stage.settings, "registry", "bus")
    client = await connect(broker)
    await client.close()
    assert killed == [signal.SIGTERM]
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)
    await close(broker)


async def test_status_is_answered_before_any_command_is_served(stage: Stage) -> None:
    async def report(_command: GetStatus) -> StatusReport:
        return StatusReport(service="instance", version="1", ready=False, missing=("postgres",))

    async with stage.bus("instance") as bus:
        await bus.serve_own(GetStatus, status_subject(Service.INSTANCE), report)
        status = await stage.caller.request(
            GetStatus(call=call()), status_subject(Service.INSTANCE)
        )
    assert status.missing == ("postgres",)
