"""API keys: superusers give them out and take them back."""

import secrets
from typing import Any, Final

from contracts.api_keys import (
    ApiKey,
    ApiKeyPage,
    CreateApiKey,
    CreatedApiKey,
    DeleteApiKey,
    ListApiKeys,
)
from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.events import ApiKeyCreated, ApiKeyDeleted, ApiKeyEvent
from contracts.messages import Command, Done
from contracts.principal import Principal
from services.registry.domain import users as rules
from services.registry.identity import acting_alone, admit
from services.registry.service import Registry
from services.registry.store import api_keys
from shared import cursors
from shared.secrets import token_hash

PREFIX: Final = "cwk_"
"""So that people and scanners of repositories know a key when they see one."""
SECRET_BYTES: Final = 32
"""256 random bits, so that a plain hash is enough to store them."""


async def create_api_key(command: CreateApiKey, registry: Registry) -> CreatedApiKey:
    """Make a key; who is no superuser any more by then leaves none behind."""
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    async with acting_alone(registry, command) as (work, actor):
        _authorise(actor, command)
        made = await api_keys.insert(
            work.connection, token_hash(secret), command.name, command.permissions
        )
        work.record(
            actor,
            "api_key_create",
            _audit_object(made),
            event=_event(ApiKeyCreated, made),
            detail={"permissions": made.permissions.model_dump(mode="json")},
        )
        return await work.answer(CreatedApiKey(api_key=made, secret=secret), secret=True)


async def list_api_keys(command: ListApiKeys, registry: Registry) -> ApiKeyPage:
    """Return a page of the keys that count."""
    after = cursors.decode(command.cursor) or 0
    async with registry.runtime.database.connection() as connection:
        _authorise(await admit(registry, connection, command), command)
        found = await api_keys.page(connection, command.limit + 1, after)
    kept = found[: command.limit]
    return ApiKeyPage(
        api_keys=tuple(kept),
        next_cursor=cursors.encode(kept[-1].id) if len(kept) < len(found) else None,
    )


async def delete_api_key(command: DeleteApiKey, registry: Registry) -> Done:
    """Make a key nobody's, from the commit on."""
    async with acting_alone(registry, command) as (work, actor):
        _authorise(actor, command)
        deleted = await api_keys.delete(work.connection, command.api_key_id)
        if deleted is None:
            raise CertwireError(ErrorCode.NOT_FOUND, "API key not found", actor=actor)
        work.record(
            actor, "api_key_delete", _audit_object(deleted), event=_event(ApiKeyDeleted, deleted)
        )
        return await work.answer(Done())


def _authorise(actor: Principal, command: Command[Any]) -> None:
    """Raise `FORBIDDEN` unless the actor may handle what belongs to the whole platform."""
    rules.authorise(actor, command, rules.standing_to_organization(actor, None))


def _audit_object(api_key: ApiKey) -> AuditObject:
    return AuditObject(type="api_key", id=str(api_key.id), name=api_key.name)


def _event(kind: type[ApiKeyEvent], api_key: ApiKey) -> ApiKeyEvent:
    return kind(
        api_key_id=api_key.id,
        name=api_key.name,
        projects=api_key.permissions.projects,
        keys=api_key.permissions.keys,
    )
