"""Logs in JSON, traces with OpenTelemetry, metrics for Prometheus."""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Thread
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.clock import rfc3339, utc_now
from shared.settings import Settings

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.connection import LoggedQuery

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that the current task serves, for logs."""

_LOG_RECORD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime",
    "color_message",  # uvicorn says it all twice
}  # fmt: skip
_PROPAGATOR: Final = TraceContextTextMapPropagator()
SHUT_DOWN_SECONDS: Final = 2.0
"""How long a service that stops waits for a collector that does not answer."""


class _Tracing:
    """Whether traces are made at all: without an exporter no request pays for them."""

    enabled: bool = False
    tracer: trace.Tracer = trace.NoOpTracer()
    provider: TracerProvider | None = None


class JsonFormatter(logging.Formatter):
    """One JSON object a line; fields given as `extra` stand beside the message."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": rfc3339(utc_now()),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request := request_id.get()) is not None:
            line["request_id"] = request
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = f"{context.trace_id:032x}"
        known = _LOG_RECORD_FIELDS | line.keys()
        line |= {k: v for k, v in vars(record).items() if k not in known}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line, default=str)  # in ASCII: a lone surrogate cannot be written


def set_up(service: str, settings: Settings) -> None:
    """Configure logging to standard output, and tracing where a collector is set."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx2", "httpcore2", "nats", "faststream", "opentelemetry"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("faststream", "faststream.access.nats"):  # else FastStream writes text, in colours
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).propagate = False
    if settings.otlp_endpoint:
        # Only here: it takes a third of a second that no one else has to wait for.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider = TracerProvider(
            resource=Resource.create({"service.name": f"certwire-{service}"}),
            sampler=ParentBasedTraceIdRatio(settings.trace_ratio),
        )
        exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint)
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
        _Tracing.provider = provider
        _Tracing.tracer = provider.get_tracer("certwire")
        _Tracing.enabled = True


def shut_down() -> None:
    """Send the last spans, for two seconds at most."""
    if _Tracing.provider is not None:
        sending = Thread(target=_Tracing.provider.shutdown, daemon=True)
        sending.start()
        sending.join(SHUT_DOWN_SECONDS)


@contextmanager
def span(
    name: str, kind: SpanKind, traceparent: str | None = None, **attributes: str
) -> Iterator[None]:
    """Run the block in a span; `traceparent` continues the caller's trace (W3C Trace Context)."""
    if not _Tracing.enabled:
        yield
        return
    parent = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None
    # An error's text is for the logs: it may hold what a client sent.
    with _Tracing.tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=dict(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield
        except Exception as error:
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def statement_span(name: str) -> Any:  # noqa: ANN401 - a context manager of either kind
    """Run the block in a span of a statement that is shared with other requests."""
    return span(
        name, SpanKind.CLIENT, **{"db.system.name": "postgresql", "db.operation.name": name}
    )


def current_traceparent() -> str | None:
    """Return the `traceparent` to send on, or None outside a trace."""
    if not _Tracing.enabled:
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


async def trace_queries(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Make a span of each query on the connection, below the span that asked for it."""
    if _Tracing.enabled:
        connection.add_query_logger(_query_span)


async def _query_span(query: "LoggedQuery") -> None:
    if not trace.get_current_span().get_span_context().is_valid:
        return
    end = time_ns()
    current = _Tracing.tracer.start_span(
        query.query.split(maxsplit=1)[0].upper(),
        kind=SpanKind.CLIENT,
        start_time=end - int(query.elapsed * 1_000_000_000),
        attributes={"db.system.name": "postgresql", "db.query.text": query.query},
    )
    if query.exception is not None:
        current.set_status(Status(StatusCode.ERROR, type(query.exception).__name__))
    current.end(end)
