"""The forms in which errors are answered. Every dialect has one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from contracts.errors import CertwireError, ErrorCode
from services.gateway.refusals import PLATFORM_TROUBLE, Refusal


class Shape(ABC):
    """How a dialect says no."""

    @abstractmethod
    def refused(self, error: CertwireError, refusal: Refusal, request_id: str) -> Response:
        """Return the answer to what a service, or the gateway itself, refused."""

    @abstractmethod
    def invalid(self, issues: Sequence[Mapping[str, Any]]) -> Response:
        """Return the answer to a request that is not as the schema has it."""

    @abstractmethod
    def failed(self, status: HTTPStatus) -> Response:
        """Return the answer to what HTTP itself refuses, such as an unknown path."""


class Detail(BaseModel):
    """An error."""

    detail: str


class Issue(BaseModel):
    """What is wrong, and where."""

    loc: list[str | int]
    msg: str
    type: str


class Issues(BaseModel):
    """A request that is not as the schema has it."""

    detail: list[Issue]


class FastapiShape(Shape):
    """`{"detail": …}`. What a caller sent is not said back: there may be a secret in it."""

    def refused(self, error: CertwireError, refusal: Refusal, request_id: str) -> Response:
        text = refusal.say(error)
        if error.code is ErrorCode.INVALID_REQUEST:
            return self.invalid([{"loc": ("body",), "msg": text, "type": "value_error"}])
        content = {"detail": text}
        if error.code in PLATFORM_TROUBLE:
            content["request_id"] = request_id
        return JSONResponse(content, refusal.status, headers_of(error, refusal))

    def invalid(self, issues: Sequence[Mapping[str, Any]]) -> Response:
        detail = [{name: issue[name] for name in Issue.model_fields} for issue in issues]
        return JSONResponse({"detail": detail}, HTTPStatus.UNPROCESSABLE_ENTITY)

    def failed(self, status: HTTPStatus) -> Response:
        return JSONResponse({"detail": status.phrase}, status)


class ProblemResponse(JSONResponse):
    """RFC 9457 section 3."""

    media_type = "application/problem+json"


class ProblemShape(Shape):
    """RFC 9457, for what belongs to no dialect."""

    def refused(self, error: CertwireError, refusal: Refusal, request_id: str) -> Response:
        content = {
            "title": refusal.status.phrase,
            "status": refusal.status,
            "detail": refusal.say(error),
            "request_id": request_id,
        }
        return ProblemResponse(content, refusal.status, headers_of(error, refusal))

    def invalid(self, issues: Sequence[Mapping[str, Any]]) -> Response:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        errors = [{name: issue[name] for name in Issue.model_fields} for issue in issues]
        content = {"title": status.phrase, "status": status, "errors": errors}
        return ProblemResponse(content, status)

    def failed(self, status: HTTPStatus) -> Response:
        return ProblemResponse({"title": status.phrase, "status": status}, status)


def headers_of(error: CertwireError, refusal: Refusal) -> dict[str, str]:
    """Return the headers that go with a refusal."""
    headers = dict(refusal.headers)
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return headers
