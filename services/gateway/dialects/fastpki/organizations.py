"""`/api/v1/organizations`, and who belongs to them."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final

from fastapi import APIRouter
from pydantic import Field

from contracts.errors import ErrorCode
from contracts.users import (
    AddMember,
    CreateOrganization,
    DeleteOrganization,
    GetOrganization,
    ListMembers,
    ListOrganizations,
    Organization,
    OrganizationChanges,
    RemoveMember,
    UpdateOrganization,
)
from services.gateway.dialects.dialect import Body
from services.gateway.dialects.fastpki.bearer import bearer
from services.gateway.dialects.fastpki.parameters import NO_NUL, Id, Limit, Skip
from services.gateway.dialects.fastpki.users import UserView
from services.gateway.exchange import Current
from services.gateway.refusals import REFUSALS, Refusal, Refusals, described
from services.gateway.routes import BEARER, DialectRoute
from services.gateway.shapes import Detail, Issues

NAME: Final = r"^[^\s\x00-\x1f\x7f-\x9f](?:[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$"
"""No control characters, and no space at either end."""

Name = Annotated[str, Field(min_length=1, max_length=255, pattern=NAME)]
Description = Annotated[str, Field(max_length=1000, pattern=NO_NUL)]


# --- What is read and written -------------------------------------------------------------------


class NewOrganization(Body):
    name: Name
    description: Description | None = None


class OrganizationPatch(Body):
    """What is to be another; null is as good as nothing."""

    name: Name | None = None
    description: Description | None = None


class OrganizationView(Body):
    id: int
    name: str
    description: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, organization: Organization) -> "OrganizationView":
        """Return the organisation as this dialect has it."""
        return cls.model_validate(organization, from_attributes=True)


# --- Routes -------------------------------------------------------------------------------------


class OrganizationRoute(DialectRoute):
    """For users, by their tokens."""

    security = (BEARER,)
    refusals: ClassVar[Refusals] = {
        **REFUSALS,
        ErrorCode.NOT_FOUND: Refusal(HTTPStatus.NOT_FOUND, "Organization not found", explains=True),
        ErrorCode.ALREADY_EXISTS: Refusal(
            HTTPStatus.BAD_REQUEST, "Organization with this name already exists", explains=True
        ),
        ErrorCode.CONFLICT: Refusal(
            HTTPStatus.BAD_REQUEST,
            "Cannot delete organization with users. Remove all users first.",
            explains=True,
        ),
    }


router = APIRouter(
    prefix="/api/v1/organizations",
    route_class=OrganizationRoute,
    tags=["organizations"],
    responses={
        int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues},
        **described(
            OrganizationRoute.refusals,
            (ErrorCode.CREDENTIAL_MISSING, ErrorCode.CREDENTIAL_REFUSED, ErrorCode.FORBIDDEN),
            Detail,
        ),
    },
)


def _also(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    return described(OrganizationRoute.refusals, codes, Detail)


@router.post("", status_code=HTTPStatus.CREATED, include_in_schema=False)
@router.post("/", status_code=HTTPStatus.CREATED, responses=_also(ErrorCode.ALREADY_EXISTS))
async def create_organization(body: NewOrganization, exchange: Current) -> OrganizationView:
    """Make an organisation, for superusers."""
    credential, call = bearer(exchange)
    return OrganizationView.of(
        await exchange.request(
            CreateOrganization(call=call, credential=credential, **body.model_dump())
        )
    )


@router.get("", include_in_schema=False)
@router.get("/")
async def list_organizations(
    exchange: Current, skip: Skip = 0, limit: Limit = 100
) -> list[OrganizationView]:
    """List organisations by id: a superuser sees all, everybody else the own one."""
    credential, call = bearer(exchange)
    page = await exchange.request(
        ListOrganizations(call=call, credential=credential, skip=skip, limit=limit)
    )
    return [OrganizationView.of(organization) for organization in page.organizations]


@router.get("/{organization_id}/", include_in_schema=False)
@router.get("/{organization_id}", responses=_also(ErrorCode.NOT_FOUND))
async def get_organization(organization_id: Id, exchange: Current) -> OrganizationView:
    """Show an organisation to its members and to superusers."""
    credential, call = bearer(exchange)
    return OrganizationView.of(
        await exchange.request(
            GetOrganization(call=call, credential=credential, organization_id=organization_id)
        )
    )


@router.patch("/{organization_id}/", include_in_schema=False)
@router.patch("/{organization_id}", responses=_also(ErrorCode.NOT_FOUND, ErrorCode.ALREADY_EXISTS))
@router.put("/{organization_id}/", include_in_schema=False)
@router.put("/{organization_id}", responses=_also(ErrorCode.NOT_FOUND, ErrorCode.ALREADY_EXISTS))
async def update_organization(
    organization_id: Id, body: OrganizationPatch, exchange: Current
) -> OrganizationView:
    """Change an organisation, for its administrators and for superusers."""
    credential, call = bearer(exchange)
    return OrganizationView.of(
        await exchange.request(
            UpdateOrganization(
                call=call,
                credential=credential,
                organization_id=organization_id,
                changes=OrganizationChanges(**body.model_dump()),
            )
        )
    )


@router.delete("/{organization_id}/", status_code=HTTPStatus.NO_CONTENT, include_in_schema=False)
@router.delete(
    "/{organization_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=_also(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
async def delete_organization(organization_id: Id, exchange: Current) -> None:
    """Delete an organisation that has no members, for superusers. The id is never used again."""
    credential, call = bearer(exchange)
    await exchange.request(
        DeleteOrganization(call=call, credential=credential, organization_id=organization_id)
    )


@router.get("/{organization_id}/users/", include_in_schema=False)
@router.get("/{organization_id}/users", responses=_also(ErrorCode.NOT_FOUND))
async def list_members(
    organization_id: Id, exchange: Current, skip: Skip = 0, limit: Limit = 100
) -> list[UserView]:
    """List the users of an organisation by id, for its members and for superusers."""
    credential, call = bearer(exchange)
    page = await exchange.request(
        ListMembers(
            call=call,
            credential=credential,
            organization_id=organization_id,
            skip=skip,
            limit=limit,
        )
    )
    return [UserView.of(user) for user in page.users]


@router.post("/{organization_id}/users/{user_id}/", include_in_schema=False)
@router.post("/{organization_id}/users/{user_id}", responses=_also(ErrorCode.NOT_FOUND))
async def add_member(organization_id: Id, user_id: Id, exchange: Current) -> UserView:
    """Let a user belong to the organisation.

    Its administrators take in plain users that belong to none; a superuser moves anybody.
    """
    credential, call = bearer(exchange)
    return UserView.of(
        await exchange.request(
            AddMember(
                call=call, credential=credential, organization_id=organization_id, user_id=user_id
            )
        )
    )


@router.delete("/{organization_id}/users/{user_id}/", include_in_schema=False)
@router.delete("/{organization_id}/users/{user_id}", responses=_also(ErrorCode.NOT_FOUND))
async def remove_member(organization_id: Id, user_id: Id, exchange: Current) -> UserView:
    """Let a member belong to no organisation."""
    credential, call = bearer(exchange)
    return UserView.of(
        await exchange.request(
            RemoveMember(
                call=call, credential=credential, organization_id=organization_id, user_id=user_id
            )
        )
    )
