"""`/api/v1/api-keys`: what deployment tools call with, made and deleted by superusers."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Path
from pydantic import BeforeValidator, ConfigDict, Field

from contracts.api_keys import (
    ApiKey,
    CreateApiKey,
    CreatedApiKey,
    DeleteApiKey,
    KeyAccess,
    KeyPermissions,
    ListApiKeys,
    ProjectAccess,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import PAGE_LIMIT, Call
from contracts.pki import OneLine
from contracts.principal import Credential
from services.gateway.dialects.dialect import decimal
from services.gateway.dialects.project.forms import (
    LIST_LIMIT,
    PAGE_DEFAULT,
    Answer,
    Cursor,
    Limit,
    Moment,
    Sent,
    group,
)
from services.gateway.exchange import Current, Exchange
from services.gateway.refusals import Refusal

PREFIX: Final = "/api/v1/api-keys"
_NOT_FOUND: Final = Refusal(HTTPStatus.NOT_FOUND, "API key not found")

KeyId = Annotated[int, Field(ge=1, lt=2**63), BeforeValidator(decimal), Path(alias="id")]


class NewPermissions(Sent):
    """What a key may do, an area each. An area that there is not is refused: it was meant."""

    model_config = ConfigDict(extra="forbid")

    projects: ProjectAccess
    keys: KeyAccess = KeyAccess.NONE


class NewApiKey(Sent):
    name: OneLine
    permissions: NewPermissions


class PermissionsView(Answer):
    projects: ProjectAccess
    keys: KeyAccess


class ApiKeyView(Answer):
    """A key, never with anything of its secret."""

    id: int
    name: str
    permissions: PermissionsView
    created_at: Moment

    @classmethod
    def of(cls, api_key: ApiKey) -> "ApiKeyView":
        """Return a key as the dialect shows it."""
        return cls(**_shown(api_key))


class CreatedApiKeyView(ApiKeyView):
    """A new key: `key` is shown once."""

    key: str = Field(repr=False)

    @classmethod
    def made(cls, created: CreatedApiKey) -> "CreatedApiKeyView":
        """Return a new key with its secret."""
        return cls(**_shown(created.api_key), key=created.secret)


class ApiKeyList(Answer):
    keys: list[ApiKeyView]


class ApiKeyListPage(ApiKeyList):
    """A page, or the first 10,000 of more keys than that."""

    next_cursor: str | None


router = group(PREFIX, "api-keys", {ErrorCode.NOT_FOUND: _NOT_FOUND})


@router.post("", status_code=HTTPStatus.CREATED)
async def create_api_key(body: NewApiKey, exchange: Current) -> CreatedApiKeyView:
    """Make a key, for superusers. It is shown once, and counts until it is deleted."""
    credential, call = _presented(exchange)
    permissions = KeyPermissions(**body.permissions.model_dump())
    return CreatedApiKeyView.made(
        await exchange.request(
            CreateApiKey(call=call, credential=credential, name=body.name, permissions=permissions)
        )
    )


@router.get("")
async def list_api_keys(
    exchange: Current, limit: Limit = None, cursor: Cursor = None
) -> ApiKeyListPage | ApiKeyList:
    """List keys in the order of their making, for superusers; without parameters all of them."""
    if limit is not None or cursor is not None:
        found, following = await _api_keys(exchange, limit or PAGE_DEFAULT, cursor)
    else:
        found, following = await _api_keys(exchange, LIST_LIMIT, None)
    views = [ApiKeyView.of(api_key) for api_key in found]
    if limit is None and cursor is None and following is None:
        return ApiKeyList(keys=views)
    return ApiKeyListPage(keys=views, next_cursor=following)


@router.delete("/{id}", status_code=HTTPStatus.NO_CONTENT)
async def delete_api_key(key_id: KeyId, exchange: Current) -> None:
    """Delete a key, for superusers: no request that begins after this one succeeds with it."""
    credential, call = _presented(exchange)
    await exchange.request(DeleteApiKey(call=call, credential=credential, api_key_id=key_id))


async def _api_keys(
    exchange: Exchange, limit: int, cursor: str | None
) -> tuple[list[ApiKey], str | None]:
    """Return `limit` keys after the cursor and the cursor after them, page by page."""
    credential, call = _presented(exchange)
    found: list[ApiKey] = []
    while True:
        size = min(PAGE_LIMIT, limit - len(found))
        page = await exchange.request(
            ListApiKeys(call=call, credential=credential, limit=size, cursor=cursor)
        )
        found += page.api_keys
        cursor = page.next_cursor
        if cursor is None or len(found) >= limit:
            return found, cursor


def _presented(exchange: Exchange) -> tuple[Credential, Call]:
    """Return what is presented, for the registry to resolve, and the circumstances."""
    credential = exchange.bearer_or_key()
    if credential is None:
        raise CertwireError(ErrorCode.CREDENTIAL_MISSING)
    return credential, exchange.call(credential.sha256)


def _shown(api_key: ApiKey) -> dict[str, object]:
    return {**api_key.model_dump(), "permissions": api_key.permissions.model_dump()}
