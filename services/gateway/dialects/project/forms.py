"""What the routes of this dialect share: names in camelCase, times in seconds, how they refuse."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, ClassVar, Final, Literal

from fastapi import APIRouter, Path, Query
from pydantic import AliasGenerator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from contracts.acme import ProjectId
from contracts.errors import ErrorCode
from contracts.messages import PAGE_LIMIT
from contracts.principal import CredentialKind
from services.gateway.dialects.dialect import Body
from services.gateway.exchange import Caller, Exchange
from services.gateway.refusals import REFUSALS, Refusal, Refusals, described
from services.gateway.routes import API_KEY, BEARER, DialectRoute


def in_seconds(moment: datetime) -> str:
    """Return the moment as this dialect prints it: `2026-04-19T12:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Moment = Annotated[datetime, PlainSerializer(in_seconds)]
Flag = Annotated[bool, Field(strict=True)]
Id = Annotated[ProjectId, Path(alias="id")]
Limit = Annotated[int | None, Query(ge=1, le=PAGE_LIMIT)]
Cursor = Annotated[str | None, Query(max_length=512)]
LIST_LIMIT: Final = 10_000
"""As many as are listed at once to those who ask for no page."""
PAGE_DEFAULT: Final = 100


class Sent(Body):
    """What a caller sends; members without a meaning are not looked at."""

    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=to_camel))


class Answer(Body):
    """What is answered."""

    model_config = ConfigDict(alias_generator=AliasGenerator(serialization_alias=to_camel))


class Failure(Answer):
    """An error. A `requestId` goes with it where the trouble is not the caller's."""

    success: Literal[False] = False
    error: str


class Success(Answer):
    """It is done."""

    success: Literal[True] = True
    message: str


# --- Routes, and what they refuse ---------------------------------------------------------------

COMMON: Final[Refusals] = {
    **REFUSALS,
    ErrorCode.INVALID_REQUEST: Refusal(HTTPStatus.BAD_REQUEST, "Invalid request", explains=True),
    ErrorCode.NOT_FOUND: Refusal(HTTPStatus.NOT_FOUND, "Project not found", explains=True),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY, REFUSALS[ErrorCode.IDEMPOTENCY_KEY_REUSED].text
    ),
    ErrorCode.ALREADY_REVOKED: Refusal(HTTPStatus.CONFLICT, "Certificate is already revoked"),
}


def group(prefix: str, tag: str, refusals: Refusals) -> APIRouter:
    """Return a router whose routes are documented with these refusals, and word them so."""
    worded = {**COMMON, **refusals}

    class OwnRoute(DialectRoute):
        refusals: ClassVar[Refusals] = worded
        security = (API_KEY, BEARER)

    codes = (
        ErrorCode.INVALID_REQUEST,
        ErrorCode.CREDENTIAL_MISSING,
        ErrorCode.CREDENTIAL_REFUSED,
        ErrorCode.FORBIDDEN,
        *refusals,
    )
    return APIRouter(
        prefix=prefix,
        route_class=OwnRoute,
        tags=[tag],
        responses=described(worded, codes, Failure),
    )


async def caller_of(exchange: Exchange) -> Caller:
    """Return who calls: with an API key in either header, or a superuser with an access token."""
    return await exchange.caller(CredentialKind.API_KEY, CredentialKind.BEARER)
