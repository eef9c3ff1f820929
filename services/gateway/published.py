"""What anybody may fetch, on both ports: CRLs, CA certificates, OCSP responses."""

import base64
import binascii
import hashlib
import re
import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import OCSP_REQUEST_BYTES, AnswerOcsp, GetCaCertificate, OcspAnswer
from services.gateway.crl_cache import CrlCache
from services.gateway.exchange import exchange_of
from services.gateway.routes import DialectRoute
from services.gateway.shapes import ProblemResponse
from shared.broker import Bus
from shared.clock import utc_now

SLUG: Final = re.compile(r"(?=.{1,300}\Z)[a-z0-9]+(?:-[a-z0-9]+)*")
"""As the issuer makes them; anything else is nobody's."""
TAG: Final = "published"
DER_CRL: Final = "application/pkix-crl"
DER_CERTIFICATE: Final = "application/pkix-cert"
PEM: Final = "application/x-pem-file"
OCSP_RESPONSE: Final = "application/ocsp-response"
PROBLEM: Final = ProblemResponse.media_type
PROBLEM_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
    },
    "required": ["title", "status"],
}
OCTETS: Final = {"type": "string", "format": "binary"}
REVALIDATED: Final = "public, no-cache"
"""A CRL may be new at any moment; asking again costs a 304."""
LONG: Final = "public, max-age=86400"
"""A CA's certificate never changes."""
OCSP_FRESH: Final = timedelta(minutes=5)
"""How long caches give out a response to a GET, within its `nextUpdate` (RFC 5019 section 6.2)."""
TRY_LATER: Final = bytes.fromhex("30030a0103")
MALFORMED: Final = bytes.fromhex("30030a0101")
"""OCSPResponses without an answer (RFC 6960 section 4.2.1)."""
AWAY: Final = frozenset(
    {
        ErrorCode.UNAVAILABLE,
        ErrorCode.OUTCOME_UNKNOWN,
        ErrorCode.OVERLOADED,
        ErrorCode.NOT_INITIALISED,
        ErrorCode.INTERNAL,
    }
)


class Published:
    """Answers with what the issuer says."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._crls = CrlCache(bus)

    def routes(self) -> list[BaseRoute]:
        """Return the routes; HEAD goes where GET does, and is described with it."""
        router = APIRouter(route_class=DialectRoute, tags=[TAG])
        _fetched(router, "/crl/{name}", self.crl, "A CRL: DER, or PEM with .pem", DER_CRL, PEM)
        _fetched(
            router, "/ca/{name}", self.ca_certificate, "A CA: .crt or .pem", DER_CERTIFICATE, PEM
        )
        _fetched(router, "/ocsp/{slug}/{request_base64:path}", self.ocsp_get, "OCSP", OCSP_RESPONSE)
        router.add_api_route(
            "/ocsp/{slug}",
            self.ocsp_post,
            methods=["POST"],
            summary="OCSP",
            **_documented(OCSP_RESPONSE),
            openapi_extra={
                "security": [],
                "requestBody": {
                    "required": True,
                    "content": {"application/ocsp-request": {"schema": OCTETS}},
                },
            },
        )
        return list(router.routes)

    async def crl(self, name: str, request: Request) -> Response:
        """Return the CRL that was made last (RFC 5280 section 5)."""
        pem = name.endswith(".pem")
        crl = await self._crls.get(_slug(name.removesuffix(".pem")))
        headers = {
            "ETag": f'"{crl.number}{"-pem" if pem else ""}"',
            "Last-Modified": _http_date(crl.this_update),
            "Cache-Control": REVALIDATED,
        }
        return _answer(request, crl.pem if pem else crl.der, PEM if pem else DER_CRL, headers)

    async def ca_certificate(self, name: str, request: Request) -> Response:
        """Return a CA's certificate (RFC 5280 section 4.2.2.1)."""
        slug, _, form = name.rpartition(".")
        if form not in {"crt", "pem"}:
            raise CertwireError(ErrorCode.NOT_FOUND)
        command = GetCaCertificate(call=exchange_of(request).call(), slug=_slug(slug))
        pem = (await self._bus.request(command)).certificate_pem
        content = pem.encode() if form == "pem" else ssl.PEM_cert_to_DER_cert(pem)
        headers = {"ETag": _hash(content), "Cache-Control": LONG}
        return _answer(request, content, PEM if form == "pem" else DER_CERTIFICATE, headers)

    async def ocsp_post(self, slug: str, request: Request) -> Response:
        """Answer an OCSPRequest in the body (RFC 6960 appendix A.1)."""
        body = exchange_of(request).body
        if len(body) > OCSP_REQUEST_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        answer = await self._ocsp(_slug(slug), body, request)
        return _ocsp_response(answer.response, {"Cache-Control": "no-store"})

    async def ocsp_get(self, slug: str, request_base64: str, request: Request) -> Response:
        """Answer an OCSPRequest in the path (RFC 6960 appendix A.1, RFC 5019 section 5)."""
        slug = _slug(slug)
        try:
            der = base64.b64decode(_padded(request_base64), validate=True)
        except (binascii.Error, ValueError):
            der = b""
        if not 0 < len(der) <= OCSP_REQUEST_BYTES:
            return _ocsp_response(MALFORMED, {"Cache-Control": "no-store"})
        answer = await self._ocsp(slug, der, request)
        if answer.this_update is None or answer.next_update is None:
            return _ocsp_response(answer.response, {"Cache-Control": "no-store"})
        now = utc_now()
        fresh = max(min(OCSP_FRESH, answer.next_update - now), timedelta(0))
        seconds = int(fresh.total_seconds())
        headers = {
            "ETag": _hash(answer.response),
            "Last-Modified": _http_date(answer.this_update),
            "Expires": _http_date(now + fresh),
            "Cache-Control": f"max-age={seconds}, public, no-transform, must-revalidate",
        }
        return _answer(request, answer.response, OCSP_RESPONSE, headers)

    async def _ocsp(self, slug: str, der: bytes, request: Request) -> OcspAnswer:
        """Ask the issuer; what an OCSP client understands takes the place of trouble inside."""
        try:
            return await self._bus.request(
                AnswerOcsp(call=exchange_of(request).call(), slug=slug, request=der)
            )
        except CertwireError as error:
            if error.code not in AWAY:
                raise
            return OcspAnswer(response=TRY_LATER)


def _fetched(
    router: APIRouter,
    path: str,
    endpoint: Callable[..., Awaitable[Response]],
    summary: str,
    *media_types: str,
) -> None:
    documented = _documented(*media_types)
    router.add_api_route(path, endpoint, methods=["GET"], summary=summary, **documented)
    router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _documented(*media_types: str) -> dict[str, Any]:
    """Return what the answers are, for the description."""

    def answers(text: str, *kinds: str) -> dict[str, Any]:
        content = {
            kind: {"schema": PROBLEM_SCHEMA if kind == PROBLEM else OCTETS} for kind in kinds
        }
        return {"description": text, "content": content}

    found: dict[int | str, dict[str, Any]] = {
        200: answers("What is asked for", *media_types),
        304: {"description": "What the caller has, by its ETag"},
        404: answers("There is no such CA", PROBLEM),
        500: answers("Internal server error", PROBLEM),
        503: answers("Service unavailable", PROBLEM),
        504: answers("No answer in time", PROBLEM),
    }
    if OCSP_RESPONSE in media_types:
        found[400] = answers("No OCSP request", OCSP_RESPONSE)
        found[413] = answers("Over 16 KiB", PROBLEM)
        found[503] = answers("Try later", OCSP_RESPONSE)
    return {"responses": found, "response_class": Response}


def _slug(text: str) -> str:
    if not SLUG.fullmatch(text):
        raise CertwireError(ErrorCode.NOT_FOUND)
    return text


def _padded(text: str) -> str:
    """Return base64 as it was, where a plus was taken for a space and the padding left out."""
    text = text.replace(" ", "+")
    return text + "=" * (-len(text) % 4)


def _hash(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


def _http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def _answer(request: Request, content: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """Return the content, or 304 where the caller has it (RFC 9110 section 13.1.2).

    By its tag alone: there may be two CRLs in a second, so their dates say too little.
    """
    asked = request.headers.get("if-none-match", "")
    tags = {each.strip().removeprefix("W/") for each in asked.split(",")}
    if headers["ETag"] in tags or asked.strip() == "*":
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _ocsp_response(response: bytes, headers: dict[str, str]) -> Response:
    """Return an OCSP response with the status that says the same to those who read only that."""
    statuses = {
        MALFORMED: HTTPStatus.BAD_REQUEST,
        TRY_LATER: HTTPStatus.SERVICE_UNAVAILABLE,
    }
    status = statuses.get(response, HTTPStatus.OK)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers = {**headers, "Retry-After": "1"}
    return Response(response, status, headers, OCSP_RESPONSE)
