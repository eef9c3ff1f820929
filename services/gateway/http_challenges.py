"""Answers to http-01 challenges, on the plain-HTTP port alone (RFC 8555 section 8.3).

Any gateway answers for any order: the acme service is asked each time, and knows only tokens of
orders that go on.
"""

import re
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from contracts.acme import GetHttpChallenge
from contracts.errors import CertwireError, ErrorCode
from services.gateway.exchange import exchange_of
from services.gateway.routes import DialectRoute
from shared.broker import Bus

PATH: Final = "/.well-known/acme-challenge/{token}"
TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
"""base64url, of 128 bits at least (RFC 8555 section 8.1); anything else is no CA's."""
MEDIA_TYPE: Final = "application/octet-stream"
"""RFC 8555 section 8.3."""


class HttpChallenges:
    """Answers with what the acme service says."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def routes(self) -> list[BaseRoute]:
        """Return the route."""
        router = APIRouter(route_class=DialectRoute)
        router.add_api_route(PATH, self.challenge, methods=["GET", "HEAD"])
        return list(router.routes)

    async def challenge(self, token: str, request: Request) -> Response:
        """Return the key authorization of a challenge that goes on."""
        if not TOKEN.fullmatch(token):
            raise CertwireError(ErrorCode.NOT_FOUND)
        command = GetHttpChallenge(call=exchange_of(request).call(), token=token)
        found = await self._bus.request(command)
        headers = {"Cache-Control": "no-store"}
        return Response(found.key_authorization, headers=headers, media_type=MEDIA_TYPE)
