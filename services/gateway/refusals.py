"""What an outcome other than success is in HTTP: the one place, before the dialects' own words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from string import Template
from typing import Any, Final

from contracts.errors import CertwireError, ErrorCode


@dataclass(frozen=True, slots=True)
class Refusal:
    """Status and text; where it `explains`, the service's own words come first.

    `$name` in a text stands for the error's parameter of that name, `$detail` for those words.
    """

    status: HTTPStatus
    text: str
    explains: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def say(self, error: CertwireError) -> str:
        """Return the text for this error."""
        own = self.explains and error.detail
        return own or Template(self.text).safe_substitute(
            {"detail": error.detail, **error.parameters}
        )


Refusals = Mapping[ErrorCode, Refusal]

BEARER_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
"""RFC 6750 section 3."""


def _explained(status: HTTPStatus, text: str) -> Refusal:
    return Refusal(status, text, explains=True)


REFUSALS: Final[Refusals] = {
    ErrorCode.INVALID_REQUEST: _explained(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid request"),
    ErrorCode.INVALID_CSR: Refusal(HTTPStatus.BAD_REQUEST, "Invalid CSR"),
    ErrorCode.CSR_TOO_LARGE: Refusal(HTTPStatus.BAD_REQUEST, "CSR too large"),
    ErrorCode.AGAINST_POLICY: _explained(HTTPStatus.BAD_REQUEST, "Not allowed by the CA's policy"),
    ErrorCode.INVALID_CERTIFICATE: _explained(HTTPStatus.BAD_REQUEST, "Invalid certificate"),
    ErrorCode.ORDER_FAILED: _explained(HTTPStatus.BAD_REQUEST, "No certificate was issued"),
    ErrorCode.CA_UNAVAILABLE: _explained(
        HTTPStatus.SERVICE_UNAVAILABLE, "The public CA is unavailable"
    ),
    ErrorCode.CREDENTIAL_MISSING: Refusal(
        HTTPStatus.UNAUTHORIZED, "Not authenticated", headers=BEARER_CHALLENGE
    ),
    ErrorCode.CREDENTIAL_REFUSED: Refusal(
        HTTPStatus.UNAUTHORIZED, "Invalid or expired credential", headers=BEARER_CHALLENGE
    ),
    ErrorCode.IDENTITY_MISMATCH: Refusal(HTTPStatus.UNAUTHORIZED, "Identity verification failed"),
    ErrorCode.TOKEN_UNKNOWN: Refusal(HTTPStatus.UNAUTHORIZED, "Invalid token"),
    ErrorCode.TOKEN_USED: Refusal(HTTPStatus.UNAUTHORIZED, "Token was used"),
    ErrorCode.TOKEN_EXPIRED: Refusal(HTTPStatus.UNAUTHORIZED, "Token has expired"),
    ErrorCode.LOGIN_FAILED: Refusal(
        HTTPStatus.UNAUTHORIZED, "Incorrect username or password", headers=BEARER_CHALLENGE
    ),
    ErrorCode.FORBIDDEN: _explained(HTTPStatus.FORBIDDEN, "Forbidden"),
    ErrorCode.NOT_FOUND: _explained(HTTPStatus.NOT_FOUND, "Not found"),
    ErrorCode.ALREADY_EXISTS: _explained(HTTPStatus.CONFLICT, "Already exists"),
    ErrorCode.TOKEN_PENDING: _explained(HTTPStatus.CONFLICT, "A token is pending"),
    ErrorCode.CONFLICT: _explained(HTTPStatus.CONFLICT, "Conflict"),
    ErrorCode.INSTANCE_NOT_RUNNING: Refusal(HTTPStatus.CONFLICT, "Instance not running"),
    ErrorCode.INVALID_TRANSITION: _explained(HTTPStatus.CONFLICT, "Invalid status transition"),
    ErrorCode.ALREADY_REVOKED: Refusal(HTTPStatus.CONFLICT, "Already revoked"),
    ErrorCode.OWNED_ELSEWHERE: _explained(HTTPStatus.CONFLICT, "Revoked through its owner only"),
    ErrorCode.GONE: _explained(HTTPStatus.GONE, "Gone"),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: Refusal(
        HTTPStatus.CONFLICT, "Idempotency-Key was used for another request"
    ),
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: Refusal(
        HTTPStatus.CONFLICT,
        "The first request with this Idempotency-Key is not done yet",
        headers={"Retry-After": "1"},
    ),
    ErrorCode.IDEMPOTENCY_SECRET_SHOWN: Refusal(
        HTTPStatus.CONFLICT,
        "The first request with this Idempotency-Key took effect; its answer held a secret and"
        " was not kept",
    ),
    ErrorCode.RATE_LIMITED: _explained(HTTPStatus.TOO_MANY_REQUESTS, "Rate limit exceeded"),
    ErrorCode.CA_CANNOT_SIGN: Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "CA error"),
    # The text stands for itself: what is down inside is nobody's business outside.
    ErrorCode.CLAIM_VOIDED: Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Not done in time; try again"),
    ErrorCode.NOT_INITIALISED: Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Not initialised"),
    ErrorCode.OVERLOADED: Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Overloaded; try again"),
    ErrorCode.UNAVAILABLE: Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Service unavailable"),
    ErrorCode.OUTCOME_UNKNOWN: Refusal(
        HTTPStatus.GATEWAY_TIMEOUT, "No answer in time; whether it took effect is unknown"
    ),
    ErrorCode.INTERNAL: Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error"),
}

PLATFORM_TROUBLE: Final = frozenset(
    {
        ErrorCode.CLAIM_VOIDED,
        ErrorCode.NOT_INITIALISED,
        ErrorCode.OVERLOADED,
        ErrorCode.UNAVAILABLE,
        ErrorCode.OUTCOME_UNKNOWN,
        ErrorCode.INTERNAL,
    }
)
"""Ours, not the caller's: the answer's body carries the request id too."""


def described(
    refusals: Refusals,
    codes: Iterable[ErrorCode],
    model: Any,  # noqa: ANN401 - FastAPI's own
) -> dict[int | str, dict[str, Any]]:
    """Return the refusals as FastAPI documents them, those of one status together."""
    texts: dict[HTTPStatus, list[str]] = {}
    for code in (*codes, *sorted(PLATFORM_TROUBLE)):
        found = texts.setdefault(refusals[code].status, [])
        if refusals[code].text not in found:
            found.append(refusals[code].text)
    return {
        int(status): {"description": "; ".join(found), "model": model}
        for status, found in texts.items()
    }
