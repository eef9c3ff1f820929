"""How routes are served: FastAPI documents them all, and serves those of which speed is not asked.

FastAPI's own way of solving parameters costs more than a certificate's signature does. A
`DirectRoute` checks path and body with pydantic, calls the endpoint, and writes what it returns.
"""

import json
from http import HTTPStatus
from typing import Any, ClassVar, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError, create_model
from starlette.types import Receive, Scope, Send

from services.gateway.exchange import SCOPE, Exchange, exchange_of
from services.gateway.refusals import REFUSALS, Refusals

CERTIFICATE: Final = "certificate"
BEARER: Final = "bearer"
API_KEY: Final = "api_key"
PUBLIC: Final[dict[str, Any]] = {"security": []}
"""`openapi_extra` of a route that anybody may call, in a group of others."""
JSON_CONTENT: Final = (b"content-type", b"application/json")


class StrictRequest(Request):
    """A request whose body was read before, and whose JSON has one meaning."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self._body = exchange_of(self).body

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the body. Raises `json.JSONDecodeError`."""
        return exchange_of(self).json()


class DialectRoute(APIRoute):
    """A route whose refusals are worded as its dialect has it for this group of routes."""

    refusals: ClassVar[Refusals] = REFUSALS
    security: ClassVar[tuple[str, ...]] = ()
    """Names of the security schemes of which one is needed; for the documentation alone."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:  # noqa: ANN401 - FastAPI's own
        security: list[dict[str, list[str]]] = [{name: []} for name in self.security]
        options["openapi_extra"] = {"security": security, **(options.get("openapi_extra") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Any:  # noqa: ANN401 - FastAPI's own
        """Return FastAPI's handler with our request."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly


class DirectRoute(DialectRoute):
    """For the hot path: an endpoint `(exchange, body, **path parameters) -> model`."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:  # noqa: ANN401 - FastAPI's own
        super().__init__(path, endpoint, **options)
        assert self.body_field is not None  # noqa: S101 - what it is for
        names: dict[str, Any] = {
            field.name: (field.field_info.annotation, ...) for field in self.dependant.path_params
        }
        inputs: dict[str, Any] = {
            "path": (create_model("Path", **names), ...),
            "body": (self.body_field.field_info.annotation, ...),
        }
        self._inputs = create_model("Inputs", **inputs)
        self._status = self.status_code or HTTPStatus.OK
        self.app = self._answer

    async def _answer(self, scope: Scope, _receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[SCOPE]
        inputs = self._check(exchange, scope["path_params"])
        reply: BaseModel = await self.endpoint(
            exchange=exchange, body=inputs.body, **inputs.path.__dict__
        )
        content = reply.model_dump_json().encode()
        length = (b"content-length", b"%d" % len(content))
        await send(
            {
                "type": "http.response.start",
                "status": self._status,
                "headers": [JSON_CONTENT, length],
            }
        )
        await send({"type": "http.response.body", "body": content})

    def _check(self, exchange: Exchange, path: dict[str, str]) -> Any:  # noqa: ANN401 - made above
        found: dict[str, Any] = {"path": path}
        try:
            if exchange.body:
                found["body"] = exchange.json()
            return self._inputs.model_validate(found)
        except json.JSONDecodeError as error:
            raise invalid_json(error) from None
        except ValidationError as error:
            raise RequestValidationError(
                error.errors(include_url=False, include_input=False)
            ) from None


def invalid_json(error: json.JSONDecodeError) -> RequestValidationError:
    """Return the refusal of a body, as FastAPI says it."""
    issue = {
        "type": "json_invalid",
        "loc": ("body", error.pos),
        "msg": "JSON decode error",
        "ctx": {"error": error.msg},
    }
    return RequestValidationError([issue])
