"""`/api/v1/users`: whoever may do what is the registry's to say."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final

from fastapi import APIRouter
from pydantic import Field

from contracts.errors import ErrorCode
from contracts.principal import Role
from contracts.users import (
    PASSWORD_CHARACTERS,
    CreateUser,
    DeleteUser,
    GetUser,
    ListUsers,
    UpdateUser,
    User,
    UserChanges,
)
from services.gateway.dialects.dialect import Body
from services.gateway.dialects.fastpki.bearer import bearer
from services.gateway.dialects.fastpki.parameters import Id, Limit, Skip
from services.gateway.exchange import Current
from services.gateway.refusals import REFUSALS, Refusal, Refusals, described
from services.gateway.routes import BEARER, DialectRoute
from services.gateway.shapes import Detail, Issues

EMAIL: Final = (
    r"^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$"
)
"""HTML's "valid e-mail address" (Living Standard, section 4.10.5.1.5)."""
USERNAME: Final = r"^[A-Za-z0-9_.@+-]+$"
"""ASCII: two names that look the same are the same."""

Username = Annotated[str, Field(min_length=1, max_length=255, pattern=USERNAME)]
Email = Annotated[str, Field(max_length=254, pattern=EMAIL)]
Password = Annotated[str, Field(min_length=PASSWORD_CHARACTERS, max_length=1024)]
Flag = Annotated[bool, Field(strict=True)]
OrganizationId = Annotated[int, Field(strict=True, ge=1, lt=2**63)]


# --- What is read and written -------------------------------------------------------------------


class NewUser(Body):
    """A user to be made. An administrator's belong to the administrator's organisation."""

    username: Username
    email: Email
    password: Annotated[Password, Field(repr=False)]
    role: Role = Role.USER
    is_active: Flag = True
    organization_id: OrganizationId | None = None
    can_create_ca: Flag = False
    can_create_cert: Flag = False
    can_revoke_cert: Flag = False
    can_export_private_key: Flag = False
    can_delete_ca: Flag = False


class UserPatch(Body):
    """What is to be another; null is as good as nothing."""

    email: Email | None = None
    password: Annotated[Password | None, Field(repr=False)] = None
    role: Role | None = None
    is_active: Flag | None = None
    organization_id: OrganizationId | None = None
    can_create_ca: Flag | None = None
    can_create_cert: Flag | None = None
    can_revoke_cert: Flag | None = None
    can_export_private_key: Flag | None = None
    can_delete_ca: Flag | None = None

    def changes(self) -> UserChanges:
        """Return what the registry is asked for."""
        return UserChanges(**self.model_dump())


class UserView(Body):
    """A user, never with anything of the password."""

    id: int
    username: str
    email: str
    role: Role
    organization_id: int | None
    is_active: bool
    can_create_ca: bool
    can_create_cert: bool
    can_revoke_cert: bool
    can_export_private_key: bool
    can_delete_ca: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, user: User) -> "UserView":
        """Return the user as this dialect has it."""
        return cls.model_validate(user, from_attributes=True)


# --- Routes -------------------------------------------------------------------------------------


class UserRoute(DialectRoute):
    """For users, by their tokens."""

    security = (BEARER,)
    refusals: ClassVar[Refusals] = {
        **REFUSALS,
        ErrorCode.NOT_FOUND: Refusal(HTTPStatus.NOT_FOUND, "User not found", explains=True),
        ErrorCode.ALREADY_EXISTS: Refusal(
            HTTPStatus.BAD_REQUEST, "Username or email already registered", explains=True
        ),
        ErrorCode.CONFLICT: Refusal(
            HTTPStatus.BAD_REQUEST, "Superusers cannot delete themselves", explains=True
        ),
    }


class RegistrationRoute(UserRoute):
    """Without a token only for the first user of all."""

    refusals: ClassVar[Refusals] = {
        **UserRoute.refusals,
        ErrorCode.CREDENTIAL_MISSING: Refusal(
            HTTPStatus.FORBIDDEN, "Unauthenticated registration is disabled"
        ),
    }


_PREFIX: Final = "/api/v1/users"
_OPTIONAL: Final[dict[str, Any]] = {"security": [{BEARER: []}, {}]}
_REFUSED: Final = (
    ErrorCode.CREDENTIAL_MISSING,
    ErrorCode.CREDENTIAL_REFUSED,
    ErrorCode.FORBIDDEN,
)
_INVALID: Final[dict[int | str, dict[str, Any]]] = {
    int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues}
}

registration = APIRouter(
    prefix=_PREFIX, route_class=RegistrationRoute, tags=["users"], responses=_INVALID
)
router = APIRouter(
    prefix=_PREFIX,
    route_class=UserRoute,
    tags=["users"],
    responses={**_INVALID, **described(UserRoute.refusals, _REFUSED, Detail)},
)


def _also(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    return described(UserRoute.refusals, codes, Detail)


@registration.post("", status_code=HTTPStatus.CREATED, include_in_schema=False)
@registration.post(
    "/",
    status_code=HTTPStatus.CREATED,
    openapi_extra=_OPTIONAL,
    responses=described(
        RegistrationRoute.refusals,
        [*_REFUSED, ErrorCode.ALREADY_EXISTS, ErrorCode.NOT_FOUND],
        Detail,
    ),
)
async def create_user(body: NewUser, exchange: Current) -> UserView:
    """Make a user: a superuser anywhere, an administrator plain ones in the own organisation."""
    credential = exchange.bearer()
    return UserView.of(
        await exchange.request(
            CreateUser(
                call=exchange.call(credential.sha256 if credential else None),
                credential=credential,
                **body.model_dump(),
            )
        )
    )


@router.get("", include_in_schema=False)
@router.get("/")
async def list_users(exchange: Current, skip: Skip = 0, limit: Limit = 100) -> list[UserView]:
    """List all users by id, for superusers."""
    credential, call = bearer(exchange)
    page = await exchange.request(
        ListUsers(call=call, credential=credential, skip=skip, limit=limit)
    )
    return [UserView.of(user) for user in page.users]


@router.get("/me/", include_in_schema=False)
@router.get("/me")
async def get_own_user(exchange: Current) -> UserView:
    """Show the caller."""
    credential, call = bearer(exchange)
    return UserView.of(
        await exchange.request(GetUser(call=call, credential=credential, user_id=None))
    )


@router.patch("/me/", include_in_schema=False)
@router.patch("/me", responses=_also(ErrorCode.ALREADY_EXISTS))
async def update_own_user(body: UserPatch, exchange: Current) -> UserView:
    """Change the own email or password; a new password ends all sessions, this one included."""
    credential, call = bearer(exchange)
    return UserView.of(
        await exchange.request(
            UpdateUser(call=call, credential=credential, user_id=None, changes=body.changes())
        )
    )


@router.get("/{user_id}/", include_in_schema=False)
@router.get("/{user_id}", responses=_also(ErrorCode.NOT_FOUND))
async def get_user(user_id: Id, exchange: Current) -> UserView:
    """Show a user: the caller, one of the administrator's organisation, to a superuser any."""
    credential, call = bearer(exchange)
    return UserView.of(
        await exchange.request(GetUser(call=call, credential=credential, user_id=user_id))
    )


@router.patch("/{user_id}/", include_in_schema=False)
@router.patch("/{user_id}", responses=_also(ErrorCode.NOT_FOUND, ErrorCode.ALREADY_EXISTS))
async def update_user(user_id: Id, body: UserPatch, exchange: Current) -> UserView:
    """Change a user. A new password and deactivation end all of the user's sessions.

    Email and password: the user, an administrator of the organisation, a superuser. Flags: the
    latter two. Role, activation and organisation: superusers, and nobody the own ones.
    """
    credential, call = bearer(exchange)
    return UserView.of(
        await exchange.request(
            UpdateUser(call=call, credential=credential, user_id=user_id, changes=body.changes())
        )
    )


@router.delete("/{user_id}/", status_code=HTTPStatus.NO_CONTENT, include_in_schema=False)
@router.delete(
    "/{user_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=_also(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
async def delete_user(user_id: Id, exchange: Current) -> None:
    """Delete a user, for other superusers. The id is never used again."""
    credential, call = bearer(exchange)
    await exchange.request(DeleteUser(call=call, credential=credential, user_id=user_id))
