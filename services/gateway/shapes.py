"""The forms in which errors are answered. Every dialect has one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

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


class PortlamaShape(Shape):
    """`{"error": …}`, with `details` where there is more to say."""

    def refused(self, error: CertwireError, refusal: Refusal, request_id: str) -> Response:
        text = refusal.say(error)
        if error.code is ErrorCode.INVALID_REQUEST:
            where = ("body", *filter(None, [error.parameters.get("field")]))
            return self.invalid([{"loc": where, "msg": text, "type": "value_error"}])
        content: dict[str, Any] = {"error": text}
        if error.code is ErrorCode.CREDENTIAL_MISSING:
            content["details"] = {"hint": CERTIFICATE_HINT}
        if error.code in CA_REFUSED:
            content["details"] = error.parameters.get("reason", error.detail)
        if error.code is ErrorCode.NOT_INITIALISED:
            content["onboardingStatus"] = error.parameters.get("status", "FRESH")
        if error.code in PLATFORM_TROUBLE:
            content["requestId"] = request_id
        return JSONResponse(content, refusal.status, headers_of(error, refusal))

    def invalid(self, issues: Sequence[Mapping[str, Any]]) -> Response:
        found = [
            {"path": _path(issue), "message": issue["msg"].removeprefix("Value error, ")}
            for issue in issues
        ]
        content = {"error": "Validation failed", "details": {"issues": found}}
        return JSONResponse(content, HTTPStatus.BAD_REQUEST)

    def failed(self, status: HTTPStatus) -> Response:
        return JSONResponse({"error": status.phrase}, status)


CA_REFUSED: Final = frozenset({ErrorCode.ORDER_FAILED, ErrorCode.CA_UNAVAILABLE})
"""What an order with a public CA ended with: the portlama dialect tells the reason apart."""
CERTIFICATE_HINT: Final = (
    "Present a client certificate of this platform, such as: curl --cert client.p12:password"
    " --cert-type P12"
)


def _path(issue: Mapping[str, Any]) -> list[str | int]:
    """Return where in its part of the request an issue is; text that is no JSON is all of it."""
    return [] if issue["type"] == "json_invalid" else list(issue["loc"][1:])


class ProjectShape(Shape):
    """`{"success": false, "error": …}`: one text says what is wrong, and where."""

    def refused(self, error: CertwireError, refusal: Refusal, request_id: str) -> Response:
        text = refusal.say(error)
        if error.code is ErrorCode.INVALID_REQUEST and "field" in error.parameters:
            text = f"{error.parameters['field']}: {text}"
        content: dict[str, Any] = {"success": False, "error": text}
        if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            content["requestId"] = request_id
        return JSONResponse(content, refusal.status, headers_of(error, refusal))

    def invalid(self, issues: Sequence[Mapping[str, Any]]) -> Response:
        text = "; ".join(map(_in_words, issues[:WORDED_ISSUES]))
        return JSONResponse({"success": False, "error": text}, HTTPStatus.BAD_REQUEST)

    def failed(self, status: HTTPStatus) -> Response:
        return JSONResponse({"success": False, "error": status.phrase}, status)


WORDED_ISSUES: Final = 5
"""Of what is wrong with a request: one line is to be read."""


def _in_words(issue: Mapping[str, Any]) -> str:
    """Return where an issue is and what it is. A name that the caller made up is not said back."""
    part, *names = issue["loc"]
    if issue["type"] == "json_invalid":
        return f"{part}: {issue['msg']}"
    message = issue["msg"].removeprefix("Value error, ")
    if issue["type"] == "extra_forbidden":
        names, message = names[:-1], "There is a member that does not belong here"
    return f"{'.'.join(map(str, names)) or part}: {message}"


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
