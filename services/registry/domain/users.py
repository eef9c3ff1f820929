"""Who may do what with users, organisations and API keys. What is not listed is refused.

How the caller stands to the user or organisation that a command is about decides, and that alone.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from contracts.api_keys import CreateApiKey, DeleteApiKey, ListApiKeys
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import Principal, PrincipalKind, Role
from contracts.users import (
    AddMember,
    CreateOrganization,
    CreateUser,
    DeleteOrganization,
    DeleteUser,
    EndAllSessions,
    EndSession,
    GetOrganization,
    GetUser,
    ListMembers,
    ListOrganizations,
    ListUsers,
    RemoveMember,
    UpdateOrganization,
    UpdateUser,
    User,
    UserChanges,
)

NOT_ENOUGH: Final = "Not enough permissions"


class Standing(StrEnum):
    """How a caller stands to a user or an organisation; the first one that fits counts."""

    ONESELF = "oneself"
    SUPERUSER = "superuser"
    ADMIN = "admin"
    """Of the organisation, or of the user's; to a superuser nobody's admin is more than others."""
    MEMBER = "member"
    STRANGER = "stranger"


ALL: Final = frozenset(Standing)
ONESELF: Final = frozenset({Standing.ONESELF})
SUPERUSER: Final = frozenset({Standing.SUPERUSER})
ADMINS: Final = SUPERUSER | {Standing.ADMIN}
MEMBERS: Final = ADMINS | {Standing.MEMBER}

MAY: Final[Mapping[type[Command[Any]], frozenset[Standing]]] = {
    EndSession: ONESELF,
    EndAllSessions: ONESELF,
    CreateUser: ADMINS,  # of the organisation that the user will belong to
    ListUsers: SUPERUSER,
    GetUser: ADMINS | ONESELF,
    UpdateUser: ADMINS | ONESELF,  # and then by field
    DeleteUser: SUPERUSER,
    CreateOrganization: SUPERUSER,
    ListOrganizations: ALL,  # everybody sees their own
    GetOrganization: MEMBERS,
    UpdateOrganization: ADMINS,
    DeleteOrganization: SUPERUSER,
    ListMembers: MEMBERS,
    AddMember: ADMINS,  # and then by whom
    RemoveMember: ADMINS,
    CreateApiKey: SUPERUSER,
    ListApiKeys: SUPERUSER,
    DeleteApiKey: SUPERUSER,
}
"""The permission table: which standing a command needs."""

CHANGES: Final[Mapping[str, frozenset[Standing]]] = {
    "email": ADMINS | ONESELF,
    "password": ADMINS | ONESELF,
    "can_create_ca": ADMINS,  # an administrator has all five by the role, in the organisation
    "can_create_cert": ADMINS,
    "can_revoke_cert": ADMINS,
    "can_export_private_key": ADMINS,
    "can_delete_ca": ADMINS,
    "role": SUPERUSER,
    "is_active": SUPERUSER,
    "organization_id": SUPERUSER,
}
"""Which standing changing a field of a user needs. No superuser is ever the last one to go: none
can delete, demote or deactivate themselves."""

ROLES: Final[Mapping[Role, frozenset[Standing]]] = {
    Role.USER: ADMINS,
    Role.ADMIN: SUPERUSER,
    Role.SUPERUSER: SUPERUSER,
}
"""Which standing making a user of a role needs."""


def standing_to_organization(actor: Principal, organization_id: int | None) -> Standing:
    """Return how the actor stands to an organisation; None is no organisation."""
    if actor.kind is not PrincipalKind.USER:
        return Standing.STRANGER
    if actor.role is Role.SUPERUSER:
        return Standing.SUPERUSER
    if organization_id is None or actor.organization_id != organization_id:
        return Standing.STRANGER
    return Standing.ADMIN if actor.role is Role.ADMIN else Standing.MEMBER


def standing_to_user(actor: Principal, user: User | None) -> Standing:
    """Return how the actor stands to a user; None is one that does not exist."""
    if user is None:
        return standing_to_organization(actor, None)
    if actor.kind is PrincipalKind.USER and actor.id == str(user.id):
        return Standing.ONESELF
    if user.role is Role.SUPERUSER:
        return standing_to_organization(actor, None)
    return standing_to_organization(actor, user.organization_id)


def authorise(actor: Principal, command: Command[Any], standing: Standing) -> None:
    """Raise `FORBIDDEN` unless the table has the standing for the command."""
    if standing not in MAY.get(type(command), frozenset()):
        raise forbidden(actor)


def authorise_creation(actor: Principal, command: CreateUser, organization_id: int | None) -> None:
    """Raise `FORBIDDEN` unless the actor may make such a user in the organisation."""
    standing = standing_to_organization(actor, organization_id)
    authorise(actor, command, standing)
    if standing not in ROLES[command.role]:
        raise forbidden(actor, f"{NOT_ENOUGH} to create admin or superuser accounts")


def organization_of_new(actor: Principal, command: CreateUser) -> int | None:
    """Return where a new user will belong: an administrator's to the own organisation."""
    if command.organization_id is None and actor.role is Role.ADMIN:
        return actor.organization_id
    return command.organization_id


def authorise_deletion(actor: Principal, command: DeleteUser) -> None:
    """Raise `CONFLICT` for a superuser that would delete itself."""
    if actor.role is Role.SUPERUSER and actor.id == str(command.user_id):
        raise CertwireError(ErrorCode.CONFLICT, "Superusers cannot delete themselves", actor=actor)


def authorise_changes(actor: Principal, changes: UserChanges, standing: Standing) -> None:
    """Raise `FORBIDDEN` for a field, whatever its value, that is not the actor's to change."""
    for field in changes.model_dump(exclude_none=True):
        if standing not in CHANGES.get(field, frozenset()):
            raise forbidden(actor, f"{NOT_ENOUGH} to change {field}")


def authorise_addition(actor: Principal, command: AddMember, user: User | None) -> None:
    """Raise `FORBIDDEN` unless the actor may take the user in.

    An administrator takes in plain users of no organisation: whoever is in another one is not
    theirs to move, and the rights of an administrator are not theirs to give.
    """
    standing = standing_to_organization(actor, command.organization_id)
    authorise(actor, command, standing)
    if standing is Standing.SUPERUSER:
        return
    free = user is not None and user.organization_id is None and user.role is Role.USER
    own = user is not None and user.organization_id == command.organization_id
    if not (free or own):
        raise forbidden(actor)


def authorise_removal(actor: Principal, command: RemoveMember, user: User | None) -> None:
    """Raise `FORBIDDEN` unless the actor may let the user go: not a superuser, nor another's."""
    standing = standing_to_organization(actor, command.organization_id)
    authorise(actor, command, standing)
    if standing is Standing.SUPERUSER:
        return
    own = user is not None and user.organization_id == command.organization_id
    if not own or user is None or user.role is Role.SUPERUSER:
        raise forbidden(actor)


def forbidden(actor: Principal, detail: str = NOT_ENOUGH) -> CertwireError:
    """Return the refusal of an actor who may not."""
    return CertwireError(ErrorCode.FORBIDDEN, detail, actor=actor)
