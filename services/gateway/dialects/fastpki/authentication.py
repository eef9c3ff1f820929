"""`/api/v1/auth`: a password becomes a session, which is refreshed and ended by its tokens."""

from http import HTTPStatus
from typing import Annotated, ClassVar, Final, Literal

from fastapi import APIRouter, Form
from pydantic import Field

from contracts.errors import ErrorCode
from contracts.registry import LogIn, TokenPair
from contracts.users import EndAllSessions, EndSession, RefreshSession
from services.gateway.dialects.dialect import Body
from services.gateway.dialects.fastpki.bearer import bearer
from services.gateway.exchange import Current
from services.gateway.refusals import BEARER_CHALLENGE, REFUSALS, Refusal, Refusals, described
from services.gateway.routes import BEARER, PUBLIC, DialectRoute
from services.gateway.shapes import Detail, Issues
from shared.clock import utc_now
from shared.secrets import token_hash


class PasswordForm(Body):
    """RFC 6749 section 4.3.2. What else the form may have, such as a scope, is not looked at."""

    grant_type: Literal["password"] = "password"
    username: Annotated[str, Field(min_length=1, max_length=255)]
    password: Annotated[str, Field(min_length=1, max_length=1024, repr=False)]


class RefreshToken(Body):
    refresh_token: Annotated[str, Field(min_length=1, max_length=512, repr=False)]


class Logout(Body):
    """The refresh token goes with its session in any case."""

    refresh_token: Annotated[str | None, Field(max_length=512, repr=False)] = None


class Token(Body):
    """RFC 6749 section 5.1; `expires_in` in seconds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind, not a token
    refresh_token: str
    expires_in: int

    @classmethod
    def of(cls, pair: TokenPair) -> "Token":
        """Return the pair as this dialect has it."""
        return cls(
            access_token=pair.access_token,
            refresh_token=pair.refresh_token,
            expires_in=max(0, round((pair.access_expires_at - utc_now()).total_seconds())),
        )


_NOT_A_TOKEN: Final = Refusal(
    HTTPStatus.UNAUTHORIZED, "Invalid or expired refresh token", headers=BEARER_CHALLENGE
)


class SessionRoute(DialectRoute):
    """Why a refresh token is not taken is told to the audit log, not to the caller."""

    security = (BEARER,)
    refusals: ClassVar[Refusals] = {
        **REFUSALS,
        ErrorCode.TOKEN_UNKNOWN: _NOT_A_TOKEN,
        ErrorCode.TOKEN_USED: _NOT_A_TOKEN,
        ErrorCode.TOKEN_EXPIRED: _NOT_A_TOKEN,
    }


router = APIRouter(
    prefix="/api/v1/auth",
    route_class=SessionRoute,
    tags=["auth"],
    responses={int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues}},
)
_WITHOUT_TOKEN: Final = (ErrorCode.CREDENTIAL_MISSING, ErrorCode.CREDENTIAL_REFUSED)


@router.post("/token/", include_in_schema=False)
@router.post(
    "/token",
    openapi_extra=PUBLIC,
    responses=described(
        SessionRoute.refusals, [ErrorCode.LOGIN_FAILED, ErrorCode.RATE_LIMITED], Detail
    ),
)
async def create_token(form: Annotated[PasswordForm, Form()], exchange: Current) -> Token:
    """Exchange a password for an access token (15 minutes) and a refresh token (24 hours)."""
    return Token.of(
        await exchange.request(
            LogIn(call=exchange.call(), username=form.username, password=form.password)
        )
    )


@router.post("/refresh/", include_in_schema=False)
@router.post(
    "/refresh",
    openapi_extra=PUBLIC,
    responses=described(SessionRoute.refusals, [ErrorCode.TOKEN_UNKNOWN], Detail),
)
async def refresh_token(body: RefreshToken, exchange: Current) -> Token:
    """Exchange a refresh token for a new pair.

    It counts once: a second use, at the same time too, ends the session and all that came of it.
    """
    spent = token_hash(body.refresh_token)
    return Token.of(
        await exchange.request(RefreshSession(call=exchange.call(spent), refresh_sha256=spent))
    )


@router.post("/logout/", status_code=HTTPStatus.NO_CONTENT, include_in_schema=False)
@router.post(
    "/logout",
    status_code=HTTPStatus.NO_CONTENT,
    responses=described(SessionRoute.refusals, [*_WITHOUT_TOKEN, ErrorCode.FORBIDDEN], Detail),
)
async def logout(exchange: Current, body: Logout | None = None) -> None:
    """End the session of the access token, and that of the refresh token where one is given."""
    credential, call = bearer(exchange)
    given = body.refresh_token if body else None
    await exchange.request(
        EndSession(
            call=call,
            credential=credential,
            refresh_sha256=token_hash(given) if given is not None else None,
        )
    )


@router.post("/invalidate/", status_code=HTTPStatus.NO_CONTENT, include_in_schema=False)
@router.post(
    "/invalidate",
    status_code=HTTPStatus.NO_CONTENT,
    responses=described(SessionRoute.refusals, _WITHOUT_TOKEN, Detail),
)
async def invalidate(exchange: Current) -> None:
    """End all sessions of the user, this one included."""
    credential, call = bearer(exchange)
    await exchange.request(EndAllSessions(call=call, credential=credential))
