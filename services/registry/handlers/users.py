"""Users: who may make, see, change and delete them is in `domain/users.py`.

Changes happen one at a time. A password is hashed before that, so who may change what is judged
twice: before the hash, which is dear, and in the transaction that acts.
"""

from typing import Final

from pydantic import JsonValue

from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.events import UserCreated, UserDeleted, UserEvent, UserUpdated
from contracts.messages import Done
from contracts.principal import ANONYMOUS, Principal
from contracts.users import (
    CreateUser,
    DeleteUser,
    GetUser,
    ListUsers,
    UpdateUser,
    User,
    UserPage,
)
from services.registry.domain import users as rules
from services.registry.domain.sessions import Flags
from services.registry.domain.users import Standing
from services.registry.identity import acting_alone, admit
from services.registry.service import Registry
from services.registry.store import organizations, platform, sessions, users
from shared import idempotency
from shared.database import Connection

PERSONAL: Final = frozenset({"email", "password"})
"""What stays out of the audit log: there only the fact is told."""


async def create_user(command: CreateUser, registry: Registry) -> User:
    """Make a user: of the first one nobody asks who makes it."""
    async with registry.runtime.database.connection() as connection:
        await _judge_creation(command, registry, connection)
        if command.call.idempotency is not None:
            await idempotency.refuse_or_answer(connection, command.call.idempotency)
        await _require_free(connection, command.username, command.email)
    password_hash = await registry.passwords.hash(command.password, command.call.deadline)
    async with registry.runtime.unit_of_work(command) as work:
        connection = work.connection
        await platform.lock(connection)
        actor, organization_id = await _judge_creation(command, registry, connection)
        await _require_free(connection, command.username, command.email)
        user_id = await users.insert(
            connection,
            command.username,
            command.email,
            password_hash,
            command.role,
            organization_id,
            Flags(
                create_ca=command.can_create_ca,
                create_cert=command.can_create_cert,
                revoke_cert=command.can_revoke_cert,
                export_private_key=command.can_export_private_key,
                delete_ca=command.can_delete_ca,
            ),
            is_active=command.is_active,
        )
        user = await existing(connection, user_id)
        work.record(
            actor,
            "user_create",
            audit_object(user),
            event=event(UserCreated, user),
            detail=_shown(user),
        )
        return await work.answer(user)


async def _judge_creation(
    command: CreateUser, registry: Registry, connection: Connection
) -> tuple[Principal, int | None]:
    """Return who makes the user, and which organisation it will belong to."""
    if command.credential is None:
        if await users.are_there_any(connection):
            raise CertwireError(ErrorCode.CREDENTIAL_MISSING)
        actor, organization_id = ANONYMOUS, command.organization_id
    else:
        actor = await admit(registry, connection, command)
        organization_id = rules.organization_of_new(actor, command)
        rules.authorise_creation(actor, command, organization_id)
    await _require_organization(connection, organization_id, actor)
    return actor, organization_id


async def list_users(command: ListUsers, registry: Registry) -> UserPage:
    """Return a page of all users, to a superuser."""
    async with registry.runtime.database.connection() as connection:
        actor = await admit(registry, connection, command)
        rules.authorise(actor, command, rules.standing_to_organization(actor, None))
        return UserPage(users=tuple(await users.page(connection, command.skip, command.limit)))


async def get_user(command: GetUser, registry: Registry) -> User:
    """Return a user."""
    async with registry.runtime.database.connection() as connection:
        actor = await admit(registry, connection, command)
        user, _ = await _judged(command, connection, actor)
        return user


async def update_user(command: UpdateUser, registry: Registry) -> User:
    """Change a user; all sessions end of one that has another password, or is deactivated."""
    changes = command.changes
    password_hash = await _hash_new_password(command, registry)
    async with registry.runtime.unit_of_work(command) as work:
        connection = work.connection
        await platform.lock(connection)
        actor, before = await _judge_changes(command, registry, connection)
        changed = changes.model_dump(exclude_none=True).keys()
        if not changed:
            return await work.answer(before)
        await users.change(connection, before.id, changes, password_hash)
        if password_hash is not None or changes.is_active is False:
            await sessions.end_all(connection, before.id)
        after = await existing(connection, before.id)
        work.record(
            actor,
            "user_update",
            audit_object(after),
            event=event(UserUpdated, after),
            detail={
                "changed": [*sorted(changed)],
                "from": _told(before, changed - PERSONAL),
                "to": _told(after, changed - PERSONAL),
            },
        )
        return await work.answer(after)


async def _hash_new_password(command: UpdateUser, registry: Registry) -> str | None:
    """Return the hash of the new password, None where there is none, for whoever may change it.

    Whoever changes the own password is nobody afterwards. So the answer to a repeat with its
    Idempotency-Key is looked for before who asks is judged: it can only have been theirs.
    """
    call, password = command.call, command.changes.password
    async with registry.runtime.database.connection() as connection:
        if password is None:
            await admit(registry, connection, command)
        if call.idempotency is not None:
            await idempotency.refuse_or_answer(connection, call.idempotency)
        await _judge_changes(command, registry, connection)
    return await registry.passwords.hash(password, call.deadline) if password is not None else None


async def _judge_changes(
    command: UpdateUser, registry: Registry, connection: Connection
) -> tuple[Principal, User]:
    """Return who asks, and the user as it is before, where the changes can be made."""
    changes = command.changes
    actor = await admit(registry, connection, command)
    user, standing = await _judged(command, connection, actor)
    rules.authorise_changes(actor, changes, standing)
    await _require_free(connection, None, changes.email, user.id)
    await _require_organization(connection, changes.organization_id, actor)
    return actor, user


async def delete_user(command: DeleteUser, registry: Registry) -> Done:
    """Delete a user, and with it its sessions: no request that begins after this one succeeds."""
    async with acting_alone(registry, command) as (work, actor):
        connection = work.connection
        rules.authorise_deletion(actor, command)
        user, _ = await _judged(command, connection, actor)
        await users.delete(connection, user.id)
        work.record(
            actor,
            "user_delete",
            audit_object(user),
            event=event(UserDeleted, user),
            detail=_shown(user),
        )
        return await work.answer(Done())


# --- What is the same for all of them -----------------------------------------------------------


async def _judged(
    command: GetUser | UpdateUser | DeleteUser, connection: Connection, actor: Principal
) -> tuple[User, Standing]:
    """Return the user in question, and how the actor stands to it.

    Raises `FORBIDDEN`, and `NOT_FOUND` to those alone who may know it.
    """
    user = await users.find(connection, command.user_id or int(actor.id))
    standing = rules.standing_to_user(actor, user)
    rules.authorise(actor, command, standing)
    if user is None:
        raise unknown_user(actor)
    return user, standing


def unknown_user(actor: Principal) -> CertwireError:
    """Return the refusal of an id that is no user's."""
    return CertwireError(ErrorCode.NOT_FOUND, "User not found", actor=actor)


async def existing(connection: Connection, user_id: int) -> User:
    """Return a user that is there."""
    user = await users.find(connection, user_id)
    assert user is not None  # noqa: S101 - nobody else changes users meanwhile
    return user


async def _require_free(
    connection: Connection, username: str | None, email: str | None, owner: int | None = None
) -> None:
    """Raise `ALREADY_EXISTS` where another user has the name or the address."""
    taken = await users.taken(connection, username, email, owner)
    if taken.username:
        raise CertwireError(ErrorCode.ALREADY_EXISTS, "Username already registered")
    if taken.email:
        raise CertwireError(ErrorCode.ALREADY_EXISTS, "Email already registered")


async def _require_organization(
    connection: Connection, organization_id: int | None, actor: Principal
) -> None:
    """Raise `NOT_FOUND` for an organisation that is none; only a superuser can come this far."""
    if organization_id is None:
        return
    if await organizations.find(connection, organization_id) is None:
        raise CertwireError(ErrorCode.NOT_FOUND, "Organization not found", actor=actor)


def audit_object(user: User) -> AuditObject:
    """Return the user as an audit record names it."""
    return AuditObject(
        type="user", id=str(user.id), name=user.username, organization_id=user.organization_id
    )


def event(kind: type[UserEvent], user: User) -> UserEvent:
    """Return what happened to the user."""
    return kind(
        user_id=user.id,
        username=user.username,
        role=user.role,
        organization_id=user.organization_id,
        is_active=user.is_active,
    )


def _shown(user: User) -> dict[str, JsonValue]:
    return _told(user, rules.CHANGES.keys() - PERSONAL)


def _told(user: User, fields: set[str]) -> dict[str, JsonValue]:
    return user.model_dump(mode="json", include=fields)
