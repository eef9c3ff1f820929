"""`/api/v1/cas`: certificate authorities of users."""

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final, Self

from fastapi import APIRouter, Response
from pydantic import Field

from contracts.errors import ErrorCode
from contracts.messages import Command
from contracts.pki import (
    CA_PAGE,
    LARGEST_PAGE,
    MOST_KEY_BITS,
    MOST_PATH_LENGTH,
    MOST_VALID_DAYS,
    CaList,
    Capability,
    CaState,
    CaView,
    CaWithKey,
    CreateCa,
    CrlBaseUrl,
    DeleteCa,
    DeleteGrant,
    GetCa,
    GetCaChain,
    GetCaPrivateKey,
    Grant,
    KeyType,
    ListCaChildren,
    ListCas,
    ListGrants,
    NameConstraints,
    OneLine,
    PutGrant,
    RetireCa,
    RotateCa,
    Text,
)
from contracts.principal import CredentialKind
from contracts.users import GetMembership
from services.gateway.dialects.dialect import Body
from services.gateway.dialects.fastpki.parameters import Id, Limit, Skip
from services.gateway.exchange import Caller, Current, Exchange
from services.gateway.refusals import REFUSALS, described
from services.gateway.routes import BEARER, DialectRoute
from services.gateway.shapes import Detail, Issues


class NewCa(Body):
    """What a CA is to be; `name_constraints` and `key_type` are ours beside the original's."""

    name: OneLine
    description: Text | None = None
    subject_dn: Annotated[str, Field(min_length=1, max_length=2048)]
    key_type: KeyType = KeyType.RSA
    key_size: Annotated[int | None, Field(strict=True, ge=1, le=MOST_KEY_BITS)] = None
    valid_days: Annotated[int | None, Field(strict=True, ge=1, le=MOST_VALID_DAYS)] = None
    parent_ca_id: Annotated[int | None, Field(strict=True, ge=1, lt=2**63)] = None
    path_length: Annotated[int | None, Field(strict=True, ge=0, le=MOST_PATH_LENGTH)] = None
    allow_leaf_certs: Annotated[bool | None, Field(strict=True)] = None
    crl_base_url: CrlBaseUrl | None = None
    name_constraints: NameConstraints | None = None


class CertificateAuthority(Body):
    """A CA. `state` is `active`, or `retired`: then it signs nothing new."""

    id: int
    name: str
    description: str | None
    subject_dn: str
    key_size: int
    valid_days: int
    created_at: datetime
    updated_at: datetime
    certificate: str
    organization_id: int | None
    created_by_user_id: int | None
    parent_ca_id: int | None
    path_length: int | None
    allow_leaf_certs: bool
    crl_base_url: str | None
    is_root: bool
    slug: str
    key_type: KeyType
    state: CaState
    serial_number: str
    not_before: datetime
    not_after: datetime
    name_constraints: NameConstraints | None

    @classmethod
    def of(cls, ca: CaView, **others: str | None) -> Self:
        """Return a CA as the dialect shows it."""
        facts = {name: getattr(ca, name) for name in cls.model_fields if hasattr(ca, name)}
        return cls(**facts, certificate=ca.certificate_pem, serial_number=ca.serial_hex, **others)


class CertificateAuthorityWithKey(CertificateAuthority):
    """A CA with its private key (PKCS #8), null where that never leaves its token."""

    private_key: Annotated[str | None, Field(repr=False)]

    @classmethod
    def with_key(cls, made: CaWithKey) -> Self:
        """Return a CA with its key."""
        return cls.of(made.ca, private_key=made.private_key_pem)


class NewGrant(Body):
    """What a user may do with a CA: this, and no more than this."""

    capabilities: Annotated[tuple[Capability, ...], Field(max_length=len(Capability))]


class GrantView(Body):
    """What a user may do with a CA beside what role and flags allow."""

    ca_id: int
    user_id: int
    capabilities: tuple[Capability, ...]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, grant: Grant) -> Self:
        """Return a grant as the dialect shows it."""
        return cls(**grant.model_dump())


class UserRoute(DialectRoute):
    """A route for users with an access token."""

    security = (BEARER,)


ERRORS: Final = (ErrorCode.CREDENTIAL_MISSING, ErrorCode.CREDENTIAL_REFUSED, ErrorCode.FORBIDDEN)
ABOUT_ONE: Final = described(REFUSALS, [*ERRORS, ErrorCode.NOT_FOUND], Detail)
CHANGES_ONE: Final = described(REFUSALS, [*ERRORS, ErrorCode.NOT_FOUND, ErrorCode.CONFLICT], Detail)
MAKES_ONE: Final = described(
    REFUSALS,
    [
        *ERRORS,
        ErrorCode.NOT_FOUND,
        ErrorCode.CONFLICT,
        ErrorCode.AGAINST_POLICY,
        ErrorCode.CA_CANNOT_SIGN,
    ],
    Detail,
)

router = APIRouter(
    prefix="/api/v1/cas",
    route_class=UserRoute,
    tags=["cas"],
    responses={
        int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues},
        **described(REFUSALS, ERRORS, Detail),
    },
)


async def user_of(exchange: Exchange) -> Caller:
    """Return the user who calls."""
    return await exchange.caller(CredentialKind.BEARER)


@router.post("", include_in_schema=False, status_code=HTTPStatus.CREATED)
@router.post("/", status_code=HTTPStatus.CREATED, responses=MAKES_ONE)
async def create_ca(body: NewCa, exchange: Current) -> CertificateAuthorityWithKey:
    """Make a root, or an intermediate below `parent_ca_id`; its private key is shown once more."""
    actor, call = await user_of(exchange)
    asked = body.model_dump(exclude_none=True) | {"name_constraints": body.name_constraints}
    made = await exchange.request(CreateCa(call=call, actor=actor, **asked))
    return CertificateAuthorityWithKey.with_key(made)


@router.get("", include_in_schema=False)
@router.get("/")
async def list_cas(
    exchange: Current, skip: Skip = 0, limit: Limit = 100
) -> list[CertificateAuthority]:
    """List the CAs that one may see, by id."""
    actor, call = await user_of(exchange)
    return await _paged(
        exchange,
        lambda skip, limit: ListCas(call=call, actor=actor, skip=skip, limit=limit),
        skip,
        limit,
    )


@router.get("/{ca_id}/", include_in_schema=False)
@router.get("/{ca_id}", responses=ABOUT_ONE)
async def get_ca(ca_id: Id, exchange: Current) -> CertificateAuthority:
    """Show a CA."""
    actor, call = await user_of(exchange)
    ca = await exchange.request(GetCa(call=call, actor=actor, ca_id=ca_id))
    return CertificateAuthority.of(ca)


@router.get("/{ca_id}/private-key/", include_in_schema=False)
@router.get("/{ca_id}/private-key", responses=CHANGES_ONE)
async def get_ca_private_key(ca_id: Id, exchange: Current) -> CertificateAuthorityWithKey:
    """Show a CA with its private key; that is recorded."""
    actor, call = await user_of(exchange)
    found = await exchange.request(GetCaPrivateKey(call=call, actor=actor, ca_id=ca_id))
    return CertificateAuthorityWithKey.with_key(found)


@router.get("/{ca_id}/chain/", include_in_schema=False)
@router.get("/{ca_id}/chain", responses=ABOUT_ONE)
async def get_ca_chain(ca_id: Id, exchange: Current) -> list[CertificateAuthority]:
    """List a CA and those above it, the root last."""
    actor, call = await user_of(exchange)
    found = await exchange.request(GetCaChain(call=call, actor=actor, ca_id=ca_id))
    return list(map(CertificateAuthority.of, found.cas))


@router.get("/{ca_id}/children/", include_in_schema=False)
@router.get("/{ca_id}/children", responses=ABOUT_ONE)
async def list_ca_children(
    ca_id: Id, exchange: Current, skip: Skip = 0, limit: Limit = LARGEST_PAGE
) -> list[CertificateAuthority]:
    """List the CAs directly below one, by id."""
    actor, call = await user_of(exchange)
    return await _paged(
        exchange,
        lambda skip, limit: ListCaChildren(
            call=call, actor=actor, ca_id=ca_id, skip=skip, limit=limit
        ),
        skip,
        limit,
    )


@router.delete("/{ca_id}/", include_in_schema=False, status_code=HTTPStatus.NO_CONTENT)
@router.delete("/{ca_id}", status_code=HTTPStatus.NO_CONTENT, responses=CHANGES_ONE)
async def delete_ca(ca_id: Id, exchange: Current) -> Response:
    """Take a CA that has none below it out of use and out of sight."""
    actor, call = await user_of(exchange)
    await exchange.request(DeleteCa(call=call, actor=actor, ca_id=ca_id))
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post("/{ca_id}/retire/", include_in_schema=False)
@router.post("/{ca_id}/retire", responses=CHANGES_ONE)
async def retire_ca(ca_id: Id, exchange: Current) -> CertificateAuthority:
    """Let a CA sign nothing new; what it signed stays valid and can be revoked."""
    actor, call = await user_of(exchange)
    ca = await exchange.request(RetireCa(call=call, actor=actor, ca_id=ca_id))
    return CertificateAuthority.of(ca)


@router.post("/{ca_id}/rotate/", include_in_schema=False, status_code=HTTPStatus.CREATED)
@router.post("/{ca_id}/rotate", status_code=HTTPStatus.CREATED, responses=MAKES_ONE)
async def rotate_ca(ca_id: Id, exchange: Current) -> CertificateAuthority:
    """Make a CA of the same name and subject with a new key, and retire the old one."""
    actor, call = await user_of(exchange)
    ca = await exchange.request(RotateCa(call=call, actor=actor, ca_id=ca_id))
    return CertificateAuthority.of(ca)


@router.get("/{ca_id}/grants/", include_in_schema=False)
@router.get("/{ca_id}/grants", responses=ABOUT_ONE)
async def list_grants(
    ca_id: Id, exchange: Current, skip: Skip = 0, limit: Limit = 100
) -> list[GrantView]:
    """List what users may do with a CA beside what role and flags allow, by user."""
    actor, call = await user_of(exchange)
    found = await exchange.request(
        ListGrants(call=call, actor=actor, ca_id=ca_id, skip=skip, limit=limit)
    )
    return list(map(GrantView.of, found.grants))


@router.put("/{ca_id}/grants/{user_id}/", include_in_schema=False)
@router.put("/{ca_id}/grants/{user_id}", responses=CHANGES_ONE)
async def put_grant(ca_id: Id, user_id: Id, body: NewGrant, exchange: Current) -> GrantView:
    """Let a user of the CA's organization do this with it, and no more than this."""
    actor, call = await user_of(exchange)
    question = GetMembership(call=exchange.call(), user_id=user_id)
    membership = await exchange.request(question)
    grant = await exchange.request(
        PutGrant(
            call=call,
            actor=actor,
            ca_id=ca_id,
            user_id=user_id,
            user_organization_id=membership.organization_id,
            capabilities=body.capabilities,
        )
    )
    return GrantView.of(grant)


@router.delete(
    "/{ca_id}/grants/{user_id}/", include_in_schema=False, status_code=HTTPStatus.NO_CONTENT
)
@router.delete("/{ca_id}/grants/{user_id}", status_code=HTTPStatus.NO_CONTENT, responses=ABOUT_ONE)
async def delete_grant(ca_id: Id, user_id: Id, exchange: Current) -> Response:
    """Take back what a user was granted on a CA."""
    actor, call = await user_of(exchange)
    await exchange.request(DeleteGrant(call=call, actor=actor, ca_id=ca_id, user_id=user_id))
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _paged(
    exchange: Exchange, page: Callable[[int, int], Command[CaList]], skip: int, limit: int
) -> list[CertificateAuthority]:
    """Ask for as many CAs as one reply carries until there are enough, or no more."""
    found: list[CertificateAuthority] = []
    while len(found) < limit:
        size = min(limit - len(found), CA_PAGE)
        reply = await exchange.request(page(skip + len(found), size))
        found += map(CertificateAuthority.of, reply.cas)
        if len(reply.cas) < size:
            break
    return found
