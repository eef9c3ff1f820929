"""`/api/v1/auth`: sessions."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Form
from pydantic import Field

from contracts.errors import ErrorCode
from contracts.registry import LogIn
from services.gateway.dialects.dialect import Body
from services.gateway.exchange import Current
from services.gateway.refusals import REFUSALS, described
from services.gateway.routes import DialectRoute
from services.gateway.shapes import Detail, Issues
from shared.clock import utc_now


class PasswordForm(Body):
    """RFC 6749 section 4.3.2. What else the form may have, such as a scope, is not looked at."""

    grant_type: Literal["password"] = "password"
    username: Annotated[str, Field(max_length=255)]
    password: Annotated[str, Field(max_length=1024, repr=False)]


class Token(Body):
    """RFC 6749 section 5.1; `expires_in` in seconds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind, not a token
    refresh_token: str
    expires_in: int


router = APIRouter(
    prefix="/api/v1/auth",
    route_class=DialectRoute,
    tags=["auth"],
    responses={int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues}},
)


@router.post("/token/", include_in_schema=False)
@router.post(
    "/token",
    responses=described(REFUSALS, [ErrorCode.LOGIN_FAILED, ErrorCode.RATE_LIMITED], Detail),
)
async def create_token(form: Annotated[PasswordForm, Form()], exchange: Current) -> Token:
    """Exchange a password for an access token (15 minutes) and a refresh token (24 hours)."""
    pair = await exchange.request(
        LogIn(call=exchange.call(), username=form.username, password=form.password)
    )
    return Token(
        access_token=pair.access_token,
        refresh_token=pair.refresh_token,
        expires_in=max(0, round((pair.access_expires_at - utc_now()).total_seconds())),
    )
