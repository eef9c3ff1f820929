"""Answers to http-01 challenges, on the plain-HTTP port alone (RFC 8555 section 8.3).

Any gateway answers for any order: the acme service is asked each time, and knows only tokens of
orders that go on. Where it is on its way back, the CA waits: to a CA, no answer is a wrong one, and
the order would fail that the service goes on with.
"""

import asyncio
import re
import time
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from contracts.acme import GetHttpChallenge, HttpChallenge
from contracts.errors import CertwireError, ErrorCode
from services.gateway.exchange import Exchange, exchange_of
from services.gateway.orders import PASSING
from services.gateway.routes import DialectRoute
from shared.broker import Bus

PATH: Final = "/.well-known/acme-challenge/{token}"
TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
"""base64url, of 128 bits at least (RFC 8555 section 8.1); anything else is no CA's."""
MEDIA_TYPE: Final = "application/octet-stream"
"""RFC 8555 section 8.3."""
PATIENCE_SECONDS: Final = 4.0
"""CAs wait for an answer for five to ten."""
ANSWER_SECONDS: Final = 2.0
"""A question that nobody has answered by then is asked again: who heard it may be gone."""
PAUSE_SECONDS: Final = 0.25


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
        found = await self._found(exchange_of(request), token)
        headers = {"Cache-Control": "no-store"}
        return Response(found.key_authorization, headers=headers, media_type=MEDIA_TYPE)

    async def _found(self, exchange: Exchange, token: str) -> HttpChallenge:
        """Return what the acme service says, once there is one, for as long as a CA waits."""
        until = time.time() + PATIENCE_SECONDS
        while True:
            deadline = min(exchange.deadline, time.time() + ANSWER_SECONDS)
            call = exchange.call().model_copy(update={"deadline": deadline})
            try:
                return await self._bus.request(GetHttpChallenge(call=call, token=token))
            except CertwireError as error:
                if error.code not in PASSING or time.time() + PAUSE_SECONDS > until:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)
