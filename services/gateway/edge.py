"""Where every request comes in and every answer leaves: the outermost ASGI application.

1. The request gets an id of its own and a span; its body is read, up to a limit and a time.
2. The routes answer it, or raise.
3. What was raised is worded as the dialect of the path has it: here and nowhere else.
4. The answer is counted, and carries the id.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPMethod, HTTPStatus
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import CertwireError, ErrorCode
from services.gateway.dialects.dialect import Dialect
from services.gateway.exchange import SCOPE, Exchange, Services
from services.gateway.refusals import REFUSALS
from services.gateway.routes import DialectRoute
from services.gateway.settings import GatewaySettings
from services.gateway.shapes import ProblemShape
from shared import telemetry

LOG: Final = logging.getLogger(__name__)

LABELS: Final = ("dialect", "route", "status")
REQUESTS: Final = Counter("certwire_http_requests_total", "Requests answered", LABELS)
SECONDS: Final = Histogram(
    "certwire_http_request_seconds",
    "Time from a request's head to its answer",
    LABELS,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 90),
)
UNCREDENTIALED: Final = Counter(
    "certwire_http_uncredentialed_requests_total",
    "Requests without any credential where one is needed",
    ("dialect", "route"),
)
NO_STORE: Final = (b"cache-control", b"no-store")
"""Answers hold keys, tokens and secrets."""
ISSUES_LIMIT: Final = 100
"""Of what is wrong with a request: nobody reads more, and it could be longer than the request."""
DRAIN_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""A body that is too large is read to its end up to here: who still sends reads no answer."""


@dataclass(frozen=True)
class _Measures:
    """The counters of one route and status, looked up once."""

    requests: Counter
    seconds: Histogram


class Edge:
    """Serves an API whose routes belong to dialects; paths outside them get RFC 9457 problems."""

    def __init__(
        self,
        api: FastAPI,
        dialects: Sequence[Dialect],
        settings: GatewaySettings,
        services: Services | None = None,
    ) -> None:
        self._api = api
        self._routes: ASGIApp = AsyncExitStackMiddleware(api.router)
        self._dialects = tuple(dialects)
        self._no_dialect = Dialect("none", (), ProblemShape(), ())
        self._settings = settings
        self._services = services
        self._measures: dict[tuple[str, str, int], _Measures] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        began = time.perf_counter()
        exchange = Exchange.begin(scope, self._services, self._settings.deadline_seconds)
        dialect = self._dialect(exchange.path)
        scope[SCOPE] = exchange
        scope["app"] = self._api
        telemetry.request_id.set(exchange.request_id)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message["headers"])
                headers.append((b"x-request-id", exchange.request_id.encode()))
                if dialect is not self._no_dialect:
                    headers.append(NO_STORE)
                message["headers"] = headers
            await send(message)

        with telemetry.span(exchange.method, SpanKind.SERVER, exchange.traceparent):
            try:
                exchange.check_headers()
                exchange.body = await self._body(exchange, receive)
                await self._routes(scope, receive, answer)
            except ClientDisconnect:
                return
            except Exception as problem:
                if status:  # half an answer is out: the server cuts the connection
                    raise
                response = self._render(exchange, dialect, scope, problem)
                await response(scope, receive, answer)
            route = _route(scope)
            self._measure(dialect, route, status, time.perf_counter() - began)
            _tell(exchange, route, status)

    def _dialect(self, path: str) -> Dialect:
        for dialect in self._dialects:
            if dialect.has(path):
                return dialect
        return self._no_dialect

    async def _body(self, exchange: Exchange, receive: Receive) -> bytes:
        """Return the body. Raises HTTPException 413 and 408, and ClientDisconnect."""
        announced = exchange.header(b"content-length")
        if announced is not None and int(announced) > DRAIN_LIMIT_BYTES:
            raise _cut(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        limit, size, more = self._settings.body_limit_bytes, 0, True
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk = message.get("body", b"")
                    more = message.get("more_body", False)
                    size += len(chunk)
                    if size > DRAIN_LIMIT_BYTES:
                        raise _cut(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                    if size <= limit:
                        chunks.append(chunk)
        except TimeoutError:
            raise _cut(HTTPStatus.REQUEST_TIMEOUT) from None
        if size > limit:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _render(
        self, exchange: Exchange, dialect: Dialect, scope: Scope, problem: Exception
    ) -> Response:
        if isinstance(problem, RequestValidationError):
            return dialect.shape.invalid(problem.errors()[:ISSUES_LIMIT])
        if isinstance(problem, HTTPException):
            response = dialect.shape.failed(HTTPStatus(problem.status_code))
            response.headers.update(problem.headers or {})
            if problem.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                response.headers["Allow"] = ", ".join(sorted(self._methods(scope)))
            return response
        if not isinstance(problem, CertwireError):
            LOG.error("a request failed", exc_info=problem, extra={"path": exchange.path})
            problem = CertwireError(ErrorCode.INTERNAL)
        if problem.code is ErrorCode.CREDENTIAL_MISSING:
            UNCREDENTIALED.labels(dialect.name, _route(scope)).inc()
        route = scope.get("route")
        refusals = route.refusals if isinstance(route, DialectRoute) else REFUSALS
        return dialect.shape.refused(problem, refusals[problem.code], exchange.request_id)

    def _methods(self, scope: Scope) -> set[str]:
        """Return what the path does take (RFC 9110 section 15.5.6)."""
        return {
            method
            for route in self._api.routes
            if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE
            for method in route.methods or ()
        }

    def _measure(self, dialect: Dialect, route: str, status: int, seconds: float) -> None:
        labels = (dialect.name, route, status)
        measures = self._measures.get(labels)
        if measures is None:
            measures = _Measures(REQUESTS.labels(*labels), SECONDS.labels(*labels))
            self._measures[labels] = measures
        measures.requests.inc()
        measures.seconds.observe(seconds)


def _cut(status: HTTPStatus) -> HTTPException:
    """Return a refusal after which the connection is of no use: the body is still coming."""
    return HTTPException(status, headers={"Connection": "close"})


def _route(scope: Scope) -> str:
    """Return method and path template: never an id, for there is no end of ids."""
    route = scope.get("route")
    if not isinstance(route, Route):
        return "unmatched"
    method = scope["method"] if scope["method"] in HTTPMethod.__members__ else "OTHER"
    return f"{method} {route.path_format}"


def _tell(exchange: Exchange, route: str, status: int) -> None:
    """Tell the trace and, where anybody will ask, the log."""
    span = trace.get_current_span()
    if span.is_recording():
        span.update_name(route)
        span.set_attributes(
            {
                "http.request.method": exchange.method,
                "http.route": route,
                "http.response.status_code": status,
                "url.path": exchange.path,
                "certwire.request_id": exchange.request_id,
            }
        )
        if exchange.caller_request_id:
            span.set_attribute("certwire.caller_request_id", exchange.caller_request_id)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))
    # On the public port a 503 is no trouble: it is the answer, asked for every second.
    troubled = exchange.services is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR
    level = logging.INFO if troubled or exchange.caller_request_id else logging.DEBUG
    if LOG.isEnabledFor(level):
        LOG.log(
            level,
            "answered",
            extra={
                "route": route,
                "status": status,
                "caller_request_id": exchange.caller_request_id,
                "source_address": exchange.source_address,
            },
        )
