"""One request, one trace: from HTTP over the bus into the SQL of those that served it."""

from contracts.subjects import EVENTS_STREAM
from tests.support.client import Client, running
from tests.support.collector import CollectedSpan, Collector
from tests.support.completeness import streamed
from tests.support.eventually import eventually
from tests.support.platform import Platform

EXPORT_SECONDS = 20
TRACE_ID, CALLER_SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


async def trace_of(collector: Collector, request_id: str) -> list[CollectedSpan]:
    """Wait until the services have sent the spans of a renewal; return them."""

    async def sent() -> list[CollectedSpan]:
        spans = collector.trace_of(request_id)
        return spans if {"gateway", "instance", "issuer"} <= {s.service for s in spans} else []

    return await eventually(sent, "the spans of the renewal", seconds=EXPORT_SECONDS)


def lineage(span: CollectedSpan, spans: list[CollectedSpan]) -> list[str]:
    """Return the services from a span up to its root."""
    by_id = {each.span_id: each for each in spans}
    services = [span.service]
    while span.parent_id in by_id:
        span = by_id[span.parent_id]
        services.append(span.service)
    return services


async def test_a_renewal_is_one_trace_from_http_to_sql(
    platform: Platform, admin: Client, collector: Collector
) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        response = await itself.renew(workload)
    spans = await trace_of(collector, response.headers["x-request-id"])

    assert len({span.trace_id for span in spans}) == 1
    ids = {span.span_id for span in spans}
    roots = [span for span in spans if span.parent_id not in ids]
    assert [(root.service, root.name, root.parent_id) for root in roots] == [
        ("gateway", "POST /internal/v1/instances/{instance_id}/cert/renew", "")
    ]
    statements = [span for span in spans if "db.system.name" in span.attributes]
    assert {(span.service, span.attributes["db.operation.name"]) for span in statements} == {
        ("instance", "instance.claim"),
        ("issuer", "issuer.issue"),
        ("instance", "instance.record"),
    }
    for statement in statements:
        way = list(dict.fromkeys(lineage(statement, spans)))
        assert way == (
            ["instance", "gateway"]
            if statement.service == "instance"
            else ["issuer", "instance", "gateway"]
        )


async def test_a_callers_trace_goes_on_into_the_event(
    platform: Platform, admin: Client, collector: Collector
) -> None:
    workload = await running(admin)
    context = {"traceparent": f"00-{TRACE_ID}-{CALLER_SPAN_ID}-01"}
    async with Client(platform, workload.identity) as itself:
        response = await itself.renew(workload, headers=context)
    spans = await trace_of(collector, response.headers["x-request-id"])
    assert {span.trace_id for span in spans} == {TRACE_ID}
    (root,) = [span for span in spans if span.parent_id == CALLER_SPAN_ID]
    assert root.service == "gateway"

    request_id = response.headers["x-request-id"]

    async def told() -> str | None:
        for event in await streamed(platform, EVENTS_STREAM):
            if event.headers.get("ce-requestid") == request_id:
                return event.headers["ce-traceparent"]
        return None

    assert TRACE_ID in (await eventually(told, "the event of the renewal") or "")


async def test_a_query_of_an_administrator_has_a_span(admin: Client, collector: Collector) -> None:
    response = await admin.call("GET", "/internal/v1/instances")
    request_id = response.headers["x-request-id"]

    async def sent() -> list[CollectedSpan]:
        spans = collector.trace_of(request_id)
        return [s for s in spans if s.service == "instance" and "db.query.text" in s.attributes]

    (query,) = await eventually(sent, "the span of the query", seconds=EXPORT_SECONDS)
    assert query.name == "SELECT"
    assert query.attributes["db.system.name"] == "postgresql"
