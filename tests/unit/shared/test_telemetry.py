"""Lines of logs, and spans as a collector receives them."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.trace import SpanKind

from shared import telemetry
from shared.broker import close, connect, nats_broker
from shared.database import Database
from shared.settings import Settings
from tests.support.servers import NatsServer, Place

LOG = logging.getLogger("tests.telemetry")
OWN_HANDLERS = ("faststream", "faststream.access.nats")
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
UNSAMPLED = f"00-{TRACE}-{CALLER}-00"


@contextmanager
def set_up(**settings: Any) -> Iterator[None]:  # noqa: ANN401 - any setting
    """Set up logs and traces until the block ends; then all is as it was."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, (*root.manager.loggerDict, *OWN_HANDLERS))]
    before = [(each, each.handlers, each.propagate, each.level) for each in loggers]
    root.handlers = []  # those of pytest are not for closing
    tracing = dict(vars(telemetry._Tracing))
    try:
        telemetry.set_up("issuer", Settings(**settings))
        yield
    finally:
        telemetry.shut_down()
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        for name in ("enabled", "tracer", "provider"):
            setattr(telemetry._Tracing, name, tracing[name])


@pytest.fixture(autouse=True)
def nothing_remains() -> Iterator[None]:
    yield
    assert not telemetry._Tracing.enabled
    assert telemetry._Tracing.provider is None
    assert not any(
        isinstance(handler.formatter, telemetry.JsonFormatter)
        for handler in logging.getLogger().handlers
    )


class Collector:
    """An OTLP collector (OTLP 1.x over HTTP, protobuf) that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.answering = threading.Event()
        self.answering.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.take(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def take(self, body: bytes) -> None:
        self.answering.wait(10)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {
                attribute.value.string_value
                for attribute in group.resource.attributes
                if attribute.key == "service.name"
            }
            self.spans += [span for scope in group.scope_spans for span in scope.spans]

    def span(self, name: str) -> Span:
        """Return the one span of that name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found

    @property
    def names(self) -> list[str]:
        return sorted(span.name for span in self.spans)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, args=(0.01,))
    thread.start()
    yield collector
    collector.answering.set()
    collector.server.shutdown()
    collector.server.server_close()
    thread.join()


@asynccontextmanager
async def database(place: Place) -> AsyncIterator[Database]:
    database = await Database.open(place.settings(Settings), "issuer")
    try:
        yield database
    finally:
        await database.close()


def attributes(span: Span) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in span.attributes}


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was logged, one object a line."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_log_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    with set_up():
        LOG.info("sealed %d of %s", 3, "Zoë's\nkeys", extra={"count": 3, "who": ["a", None]})
    (line,) = lines(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "service": "issuer",
        "logger": "tests.telemetry",
        "message": "sealed 3 of Zoë's\nkeys",
        "count": 3,
        "who": ["a", None],
    }


def test_an_exception_is_in_the_line_of_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    with set_up():
        try:
            try:
                int("inner")
            except ValueError as error:
                raise RuntimeError("outer") from error
        except RuntimeError:
            LOG.exception("a command failed")
        LOG.error("none now", exc_info=True)  # noqa: LOG014 - there is none to show
    failed, none = lines(capsys)
    assert failed["message"] == "a command failed"
    assert failed["exception"].startswith("Traceback (most recent call last):\n")
    assert "ValueError: invalid literal" in failed["exception"]
    assert failed["exception"].endswith("RuntimeError: outer\n")
    assert "exception" not in none


def test_a_line_names_the_request_that_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    async def serve(name: str) -> None:
        telemetry.request_id.set(name)
        await asyncio.sleep(0)
        LOG.info(name)

    async def serve_two() -> None:
        await asyncio.gather(serve("one"), serve("two"))

    with set_up():
        asyncio.run(serve_two())
        LOG.info("outside")
    *served, outside = lines(capsys)
    assert [line["request_id"] for line in served] == ["one", "two"]
    assert "request_id" not in outside


def test_what_is_added_replaces_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with set_up():
        LOG.info("said", extra={"service": "another", "level": "none", "color_message": "said"})
    (line,) = lines(capsys)
    assert (line["service"], line["level"]) == ("issuer", "info")
    assert "color_message" not in line


@pytest.mark.parametrize(
    "text", ["\ud800", "\0", "two\nlines", "\u2028", "\x1b[31m", '{"level": "forged"}', "𝄞"]
)
def test_no_text_breaks_a_line(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    with set_up():
        LOG.warning("a client sent %s", text, extra={"what": {"it": text}, "object": Odd(text)})
    out, err = capfd.readouterr()
    assert err == ""
    assert out.isascii()
    (line,) = (json.loads(line) for line in out.splitlines())
    assert line["message"] == f"a client sent {text}"
    assert line["what"] == {"it": text}
    assert line["object"] == f"odd {text}"


class Odd:
    """Something that JSON does not know."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return f"odd {self.text}"


def test_setting_up_twice_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with set_up(), set_up():
        LOG.info("once")
    assert len(lines(capsys)) == 1


def test_the_level_is_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with set_up(log_level="warning"):
        LOG.info("no")
        LOG.warning("yes")
    assert [line["message"] for line in lines(capsys)] == ["yes"]


def test_libraries_that_talk_much_are_heard_when_it_matters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with set_up(log_level="debug"):
        for name in ("httpx2", "nats.aio", "faststream.nats"):
            logging.getLogger(name).info("chatter")
            logging.getLogger(name).warning("trouble")
    assert [line["message"] for line in lines(capsys)] == ["trouble"] * 3


async def test_what_faststream_says_is_a_line_too(
    bus_place: Place, nats_server: NatsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    printed = ""
    with set_up():
        broker = nats_broker(bus_place.settings(Settings), "issuer", "bus")
        await connect(broker)
        nats_server.stop()
        async with asyncio.timeout(10):
            while "faststream" not in printed:
                await asyncio.sleep(0.05)
                printed += capfd.readouterr().out
        await nats_server.start()
        await close(broker)
    out, err = capfd.readouterr()
    assert err == ""
    said = [json.loads(line) for line in (printed + out).splitlines()]
    assert any("Connection broken" in line["message"] for line in said)


async def test_no_endpoint_no_traces(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    threads = set(threading.enumerate())
    with set_up():
        with telemetry.span("work", SpanKind.SERVER, SAMPLED), telemetry.statement_span("one"):
            assert not trace.get_current_span().get_span_context().is_valid
            assert telemetry.current_traceparent() is None
            LOG.info("in it")
        async with database(place) as issuer, issuer.connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1
            with (
                pytest.raises(RuntimeError, match="as it was"),
                telemetry.span("", SpanKind.CLIENT),
            ):
                raise RuntimeError("as it was")
    assert set(threading.enumerate()) <= threads
    assert not any("trace_id" in line for line in lines(capsys))


def test_a_block_without_traces_costs_next_to_nothing() -> None:
    rounds = 10_000
    began = time.thread_time()
    for _ in range(rounds):
        with telemetry.span("work", SpanKind.SERVER, SAMPLED):
            telemetry.current_traceparent()
    assert (time.thread_time() - began) / rounds < 50e-6


def test_a_span_is_below_the_one_around_it(collector: Collector) -> None:
    with (
        set_up(otlp_endpoint=collector.endpoint),
        telemetry.span("request", SpanKind.SERVER),
        telemetry.span("command", SpanKind.CLIENT, subject="a.b"),
    ):
        pass
    outer, inner = collector.span("request"), collector.span("command")
    assert collector.services == {"certwire-issuer"}
    assert (outer.kind, inner.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert outer.parent_span_id == b""
    assert inner.parent_span_id == outer.span_id
    assert inner.trace_id == outer.trace_id
    assert attributes(inner) == {"subject": "a.b"}
    assert outer.status.code == inner.status.code == Status.STATUS_CODE_UNSET


def test_a_trace_goes_on_in_another_service(collector: Collector) -> None:
    with set_up(otlp_endpoint=collector.endpoint):
        with telemetry.span("sent", SpanKind.CLIENT, SAMPLED):
            traceparent = telemetry.current_traceparent()
        with telemetry.span("answered", SpanKind.SERVER, traceparent):
            pass
        assert telemetry.current_traceparent() is None
    sent, answered = collector.span("sent"), collector.span("answered")
    assert traceparent == f"00-{TRACE}-{sent.span_id.hex()}-01"
    assert sent.trace_id.hex() == answered.trace_id.hex() == TRACE
    assert sent.parent_span_id.hex() == CALLER
    assert answered.parent_span_id == sent.span_id


@pytest.mark.parametrize(
    "traceparent",
    ["", "rubbish", SAMPLED.upper(), f"ff{SAMPLED[2:]}", SAMPLED.replace(TRACE, "0" * 32)],
)
def test_a_traceparent_that_is_none_begins_a_trace(collector: Collector, traceparent: str) -> None:
    with (
        set_up(otlp_endpoint=collector.endpoint),
        telemetry.span("a", SpanKind.SERVER, traceparent),
    ):
        pass
    assert collector.span("a").parent_span_id == b""
    assert collector.span("a").trace_id.hex() != TRACE


def test_the_caller_decides_whether_a_trace_is_kept(collector: Collector) -> None:
    with set_up(otlp_endpoint=collector.endpoint, trace_ratio=0):
        for name, traceparent in (("ours", None), ("theirs", SAMPLED), ("nobody's", UNSAMPLED)):
            with telemetry.span(name, SpanKind.SERVER, traceparent):
                assert telemetry.current_traceparent()
    assert collector.names == ["theirs"]


def test_a_failure_shows_without_its_words(collector: Collector) -> None:
    with set_up(otlp_endpoint=collector.endpoint):
        with pytest.raises(ValueError, match="hunter2"), telemetry.span("login", SpanKind.SERVER):
            raise ValueError("not a password: hunter2")
        with pytest.raises(asyncio.CancelledError), telemetry.span("given up", SpanKind.SERVER):
            raise asyncio.CancelledError
    failed = collector.span("login")
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "ValueError")
    assert b"hunter2" not in failed.SerializeToString()
    assert collector.span("given up").status.code == Status.STATUS_CODE_UNSET


def test_a_log_line_names_its_trace(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    with set_up(otlp_endpoint=collector.endpoint):
        with telemetry.span("work", SpanKind.SERVER, SAMPLED):
            LOG.info("inside")
        LOG.info("outside")
    inside, outside = lines(capsys)
    assert inside["trace_id"] == TRACE
    assert "trace_id" not in outside


def test_a_shared_statement_has_its_span(collector: Collector) -> None:
    with (
        set_up(otlp_endpoint=collector.endpoint),
        telemetry.span("batch", SpanKind.INTERNAL),
        telemetry.statement_span("renew"),
    ):
        pass
    statement = collector.span("renew")
    assert statement.parent_span_id == collector.span("batch").span_id
    assert statement.kind == Span.SPAN_KIND_CLIENT
    assert attributes(statement) == {"db.system.name": "postgresql", "db.operation.name": "renew"}


async def test_queries_are_below_the_span_that_asks(place: Place, collector: Collector) -> None:
    with set_up(otlp_endpoint=collector.endpoint):
        async with database(place) as issuer:
            for _ in range(2):  # the connection goes back to the pool and stays traced
                with telemetry.span("request", SpanKind.SERVER):
                    async with issuer.transaction() as connection:
                        await connection.execute("INSERT INTO inbox VALUES ($1, $2)", "a", "secret")
                        await connection.fetchval("SELECT pg_sleep(0.05)")
                        await connection.execute("DELETE FROM inbox")
                await asyncio.sleep(0)  # spans of queries are made after them
            async with issuer.connection() as connection:
                await connection.fetchval("SELECT 'nobody asked'")
            await asyncio.sleep(0)
    requests = [span for span in collector.spans if span.name == "request"]
    assert len(requests) == 2
    for request in requests:
        below = [span for span in collector.spans if span.parent_span_id == request.span_id]
        assert {span.trace_id for span in below} == {request.trace_id}
        assert {span.name for span in below} >= {"INSERT", "SELECT", "DELETE"}
        (slept,) = (span for span in below if span.name == "SELECT")
        assert attributes(slept) == {
            "db.system.name": "postgresql",
            "db.query.text": "SELECT pg_sleep(0.05)",
        }
        assert 0.05e9 <= slept.end_time_unix_nano - slept.start_time_unix_nano < 2e9
        assert slept.start_time_unix_nano >= request.start_time_unix_nano
    received = b"".join(span.SerializeToString() for span in collector.spans)
    assert b"secret" not in received
    assert b"nobody asked" not in received


async def test_a_query_that_fails_shows(place: Place, collector: Collector) -> None:
    with set_up(otlp_endpoint=collector.endpoint):
        async with database(place) as issuer:
            with (
                pytest.raises(asyncpg.UndefinedTableError),
                telemetry.span("request", SpanKind.SERVER),
            ):
                async with issuer.connection() as connection:
                    await connection.fetchval("SELECT * FROM nowhere")
            await asyncio.sleep(0)
    status = collector.span("SELECT").status
    assert (status.code, status.message) == (Status.STATUS_CODE_ERROR, "UndefinedTableError")


def test_the_last_spans_are_sent_at_the_end(collector: Collector) -> None:
    with set_up(otlp_endpoint=collector.endpoint):
        for number in range(1000):  # more than one batch
            with telemetry.span(str(number), SpanKind.INTERNAL):
                pass
        telemetry.shut_down()
        assert len(collector.spans) == 1000
        telemetry.shut_down()
        with telemetry.span("too late", SpanKind.INTERNAL):
            pass
    assert len(collector.spans) == 1000


def test_the_end_does_not_wait_for_a_silent_collector(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "SHUT_DOWN_SECONDS", 0.3)
    collector.answering.clear()
    with set_up(otlp_endpoint=collector.endpoint):
        with telemetry.span("work", SpanKind.INTERNAL):
            pass
        began = time.monotonic()
        telemetry.shut_down()
        assert time.monotonic() - began < 2
