"""Organisations and their members: who may do what is in `domain/users.py`."""

from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.events import (
    OrganizationCreated,
    OrganizationDeleted,
    OrganizationUpdated,
    UserUpdated,
)
from contracts.messages import Done
from contracts.principal import Principal, Role
from contracts.users import (
    AddMember,
    CreateOrganization,
    DeleteOrganization,
    GetOrganization,
    ListMembers,
    ListOrganizations,
    Organization,
    OrganizationPage,
    RemoveMember,
    UpdateOrganization,
    User,
    UserPage,
)
from services.registry.domain import users as rules
from services.registry.handlers.users import event, existing, unknown_user
from services.registry.identity import acting_alone, admit
from services.registry.service import Registry
from services.registry.store import organizations, users
from shared.database import Connection


async def create_organization(command: CreateOrganization, registry: Registry) -> Organization:
    """Make an organisation, for a superuser."""
    async with acting_alone(registry, command) as (work, actor):
        rules.authorise(actor, command, rules.standing_to_organization(actor, None))
        await _require_free(work.connection, command.name, actor)
        made = await organizations.insert(work.connection, command.name, command.description)
        work.record(
            actor,
            "org_create",
            audit_object(made),
            event=OrganizationCreated(organization_id=made.id, name=made.name),
        )
        return await work.answer(made)


async def list_organizations(command: ListOrganizations, registry: Registry) -> OrganizationPage:
    """Return all organisations to a superuser, and to everybody else the own one."""
    async with registry.runtime.database.connection() as connection:
        actor = await admit(registry, connection, command)
        rules.authorise(actor, command, rules.standing_to_organization(actor, None))
        only = None if actor.role is Role.SUPERUSER else actor.organization_id
        if only is None and actor.role is not Role.SUPERUSER:
            return OrganizationPage(organizations=())
        found = await organizations.page(connection, only, command.skip, command.limit)
        return OrganizationPage(organizations=tuple(found))


async def get_organization(command: GetOrganization, registry: Registry) -> Organization:
    """Return an organisation to its members."""
    async with registry.runtime.database.connection() as connection:
        actor = await admit(registry, connection, command)
        return await _judged(command, connection, actor)


async def update_organization(command: UpdateOrganization, registry: Registry) -> Organization:
    """Change an organisation."""
    async with acting_alone(registry, command) as (work, actor):
        before = await _judged(command, work.connection, actor)
        if command.changes.name is not None:
            await _require_free(work.connection, command.changes.name, actor, before.id)
        changed = command.changes.model_dump(exclude_none=True)
        if not changed:
            return await work.answer(before)
        after = await organizations.change(work.connection, before.id, command.changes)
        work.record(
            actor,
            "org_update",
            audit_object(after),
            event=OrganizationUpdated(organization_id=after.id, name=after.name),
            detail={"from": before.model_dump(include=set(changed)), "to": changed},
        )
        return await work.answer(after)


async def delete_organization(command: DeleteOrganization, registry: Registry) -> Done:
    """Delete an organisation that nobody belongs to."""
    async with acting_alone(registry, command) as (work, actor):
        organization = await _judged(command, work.connection, actor)
        if await users.has_members(work.connection, organization.id):
            raise CertwireError(
                ErrorCode.CONFLICT,
                "Cannot delete organization with users. Remove all users first.",
                actor=actor,
            )
        await organizations.delete(work.connection, organization.id)
        work.record(
            actor,
            "org_delete",
            audit_object(organization),
            event=OrganizationDeleted(organization_id=organization.id, name=organization.name),
        )
        return await work.answer(Done())


async def list_members(command: ListMembers, registry: Registry) -> UserPage:
    """Return a page of an organisation's users, to its members."""
    async with registry.runtime.database.connection() as connection:
        actor = await admit(registry, connection, command)
        organization = await _judged(command, connection, actor)
        found = await users.members(connection, organization.id, command.skip, command.limit)
        return UserPage(users=tuple(found))


async def add_member(command: AddMember, registry: Registry) -> User:
    """Let a user belong to the organisation; nothing happens where it does."""
    async with acting_alone(registry, command) as (work, actor):
        before = await users.find(work.connection, command.user_id)
        rules.authorise_addition(actor, command, before)
        organization = await _judged(command, work.connection, actor)
        if before is None:
            raise unknown_user(actor)
        if before.organization_id == organization.id:
            return await work.answer(before)
        await users.set_organization(work.connection, before.id, organization.id)
        after = await existing(work.connection, before.id)
        work.record(
            actor,
            "org_add_user",
            audit_object(organization),
            event=event(UserUpdated, after),
            detail={
                "user_id": after.id,
                "username": after.username,
                "from": before.organization_id,
            },
        )
        return await work.answer(after)


async def remove_member(command: RemoveMember, registry: Registry) -> User:
    """Let a member belong to no organisation."""
    async with acting_alone(registry, command) as (work, actor):
        before = await users.find(work.connection, command.user_id)
        rules.authorise_removal(actor, command, before)
        organization = await _judged(command, work.connection, actor)
        if before is None or before.organization_id != organization.id:
            raise unknown_user(actor)
        await users.set_organization(work.connection, before.id, None)
        after = await existing(work.connection, before.id)
        work.record(
            actor,
            "org_remove_user",
            audit_object(organization),
            event=event(UserUpdated, after),
            detail={"user_id": after.id, "username": after.username},
        )
        return await work.answer(after)


# --- What is the same for all of them -----------------------------------------------------------


async def _judged(
    command: GetOrganization
    | UpdateOrganization
    | DeleteOrganization
    | ListMembers
    | AddMember
    | RemoveMember,
    connection: Connection,
    actor: Principal,
) -> Organization:
    """Return the organisation in question.

    Raises `FORBIDDEN`, and `NOT_FOUND` to those alone who may know it.
    """
    rules.authorise(actor, command, rules.standing_to_organization(actor, command.organization_id))
    found = await organizations.find(connection, command.organization_id)
    if found is None:
        raise CertwireError(ErrorCode.NOT_FOUND, "Organization not found", actor=actor)
    return found


async def _require_free(
    connection: Connection, name: str, actor: Principal, owner: int | None = None
) -> None:
    """Raise `ALREADY_EXISTS` where another organisation has the name."""
    if await organizations.is_taken(connection, name, owner):
        raise CertwireError(
            ErrorCode.ALREADY_EXISTS, "Organization with this name already exists", actor=actor
        )


def audit_object(organization: Organization) -> AuditObject:
    """Return the organisation as an audit record names it."""
    return AuditObject(
        type="organization",
        id=str(organization.id),
        name=organization.name,
        organization_id=organization.id,
    )
