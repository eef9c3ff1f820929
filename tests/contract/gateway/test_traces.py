"""The trace of a request: from the caller's, through the gateway, to the service."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import RenewCertificate
from services.gateway.app import Gateway
from shared import telemetry
from tests.contract.gateway.messages import RENEW, RENEW_BODY, SIGNED
from tests.support.stand_in import StandIn, client

TRACE = "a" * 32
CALLER = "b" * 16
ROUTE = "POST /internal/v1/instances/{instance_id}/cert/renew"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Make traces, and keep them."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry._Tracing, "tracer", provider.get_tracer("test"))
    monkeypatch.setattr(telemetry._Tracing, "enabled", True)
    yield exporter
    provider.shutdown()


def of_trace(spans: InMemorySpanExporter, kind: SpanKind) -> list[ReadableSpan]:
    found = spans.get_finished_spans()
    return [one for one in found if one.kind is kind and f"{one.context.trace_id:032x}" == TRACE]


async def renew(gateway: Gateway, stand_in: StandIn) -> str:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-Id": "theirs"}
    async with client(gateway, stand_in.authority, stand_in.authority.client()) as http:
        answer = await http.post(RENEW, json=RENEW_BODY, headers=headers)
    return answer.headers["x-request-id"]


async def test_goes_on_from_the_caller_to_the_service(
    gateway: Gateway, stand_in: StandIn, spans: InMemorySpanExporter
) -> None:
    stand_in.says({RenewCertificate: SIGNED})
    request_id = await renew(gateway, stand_in)
    (sent,) = of_trace(spans, SpanKind.CLIENT)
    (served, answered) = of_trace(spans, SpanKind.SERVER)  # the stand-in's, the gateway's
    assert answered.name == ROUTE
    assert answered.parent
    assert f"{answered.parent.span_id:016x}" == CALLER
    assert sent.parent
    assert sent.parent.span_id == answered.context.span_id
    assert served.parent
    assert served.parent.span_id == sent.context.span_id
    assert answered.attributes
    assert answered.attributes["http.route"] == ROUTE
    assert answered.attributes["http.response.status_code"] == 200
    assert answered.attributes["certwire.request_id"] == request_id
    assert answered.attributes["certwire.caller_request_id"] == "theirs"
    assert answered.status.status_code is StatusCode.UNSET


async def test_our_failures_show_and_the_callers_do_not(
    gateway: Gateway, stand_in: StandIn, spans: InMemorySpanExporter
) -> None:
    for code, status in (
        (ErrorCode.UNAVAILABLE, StatusCode.ERROR),
        (ErrorCode.NOT_FOUND, StatusCode.UNSET),
    ):
        spans.clear()
        stand_in.says({RenewCertificate: CertwireError(code)})
        await renew(gateway, stand_in)
        (answered,) = (span for span in of_trace(spans, SpanKind.SERVER) if span.name == ROUTE)
        assert answered.status.status_code is status
