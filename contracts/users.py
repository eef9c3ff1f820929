"""Commands of the registry about sessions, users and organisations.

The registry resolves the raw credential in the transaction that acts: `CREDENTIAL_REFUSED` for a
token that is nobody's, `FORBIDDEN` for who may not, unknown ids included; `NOT_FOUND` only for who
may know what there is. Ids are integers and never used again.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Generic

from pydantic import Field

from contracts.messages import Command, Done, Message, ReplyT, Sha256Hex
from contracts.principal import Credential, Role
from contracts.registry import TokenPair
from contracts.subjects import Service, command

Id = Annotated[int, Field(ge=1, lt=2**63)]
LARGEST_PAGE = 1000
"""What the dialect's `limit` takes; a reply of this size stays below `max_payload`."""
PASSWORD_CHARACTERS = 8
"""The ruling's number."""

Password = Annotated[str, Field(min_length=PASSWORD_CHARACTERS, max_length=1024)]


class User(Message):
    """A user as it is shown: never with anything of the password."""

    id: Id
    username: str
    email: str
    role: Role
    organization_id: Id | None
    is_active: bool
    can_create_ca: bool
    can_create_cert: bool
    can_revoke_cert: bool
    can_export_private_key: bool
    can_delete_ca: bool
    created_at: datetime
    updated_at: datetime


class UserPage(Message):
    users: tuple[User, ...]


class Organization(Message):
    id: Id
    name: str
    description: str | None
    created_at: datetime
    updated_at: datetime


class OrganizationPage(Message):
    organizations: tuple[Organization, ...]


class UserChanges(Message):
    """What is to be another; None leaves it as it is."""

    email: str | None = None
    password: Password | None = Field(default=None, repr=False)
    role: Role | None = None
    is_active: bool | None = None
    organization_id: Id | None = None
    can_create_ca: bool | None = None
    can_create_cert: bool | None = None
    can_revoke_cert: bool | None = None
    can_export_private_key: bool | None = None
    can_delete_ca: bool | None = None


class OrganizationChanges(Message):
    """What is to be another; None leaves it as it is."""

    name: str | None = None
    description: str | None = None


class RefreshSession(Command[TokenPair]):
    """Exchange a refresh token, by its hash, for the next pair of its family; public.

    Raises `TOKEN_UNKNOWN` and `TOKEN_EXPIRED`, and for one that was spent `TOKEN_USED`, with which
    the whole family ends: one of the two who had it has stolen it.
    """

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "session", "refresh")
    ACTION: ClassVar[str | None] = "session_refresh"
    REPLY: ClassVar[type[Message]] = TokenPair

    refresh_sha256: Sha256Hex

    def audit_object(self) -> tuple[str, str]:
        return "session", ""


class SessionCommand(Command[ReplyT], Generic[ReplyT]):
    """What a user does with the own sessions."""

    credential: Credential

    def audit_object(self) -> tuple[str, str]:
        return "session", ""


class EndSession(SessionCommand[Done]):
    """End the family of the access token, and that of the refresh token where one is given.

    Raises `FORBIDDEN` for somebody else's refresh token; an unknown one is not looked at.
    """

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "session", "end")
    ACTION: ClassVar[str | None] = "session_end"
    REPLY: ClassVar[type[Message]] = Done

    refresh_sha256: Sha256Hex | None = None


class EndAllSessions(SessionCommand[Done]):
    """End all sessions of the user."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "session", "end_all")
    ACTION: ClassVar[str | None] = "session_end_all"
    REPLY: ClassVar[type[Message]] = Done


class CreateUser(Command[User]):
    """Make a user. Without a credential only while there is none at all.

    An administrator's users belong to the administrator's organisation. Raises `ALREADY_EXISTS`.
    """

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "user", "create")
    ACTION: ClassVar[str | None] = "user_create"
    REPLY: ClassVar[type[Message]] = User

    credential: Credential | None
    username: str = Field(min_length=1, max_length=255)
    email: str = Field(min_length=1, max_length=254)
    password: Password = Field(repr=False)
    role: Role = Role.USER
    is_active: bool = True
    organization_id: Id | None = None
    can_create_ca: bool = False
    can_create_cert: bool = False
    can_revoke_cert: bool = False
    can_export_private_key: bool = False
    can_delete_ca: bool = False

    def audit_object(self) -> tuple[str, str]:
        return "user", ""


class ListUsers(Command[UserPage]):
    """List all users by id. Superusers only."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "user", "list")
    REPLY: ClassVar[type[Message]] = UserPage

    credential: Credential
    skip: int = Field(ge=0, lt=2**63)
    limit: int = Field(ge=1, le=LARGEST_PAGE)


class UserCommand(Command[ReplyT], Generic[ReplyT]):
    """What is asked about one user; `user_id` None is whoever asks."""

    credential: Credential
    user_id: Id | None

    def audit_object(self) -> tuple[str, str]:
        return "user", str(self.user_id or "")


class GetUser(UserCommand[User]):
    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "user", "get")
    REPLY: ClassVar[type[Message]] = User


class UpdateUser(UserCommand[User]):
    """Change a user; a new password and deactivation end all sessions. Raises `ALREADY_EXISTS`."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "user", "update")
    ACTION: ClassVar[str | None] = "user_update"
    REPLY: ClassVar[type[Message]] = User

    changes: UserChanges


class DeleteUser(UserCommand[Done]):
    """Delete a user with all sessions. Raises `CONFLICT` for oneself."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "user", "delete")
    ACTION: ClassVar[str | None] = "user_delete"
    REPLY: ClassVar[type[Message]] = Done


class CreateOrganization(Command[Organization]):
    """Make an organisation. Raises `ALREADY_EXISTS`."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "organization", "create")
    ACTION: ClassVar[str | None] = "org_create"
    REPLY: ClassVar[type[Message]] = Organization

    credential: Credential
    name: str = Field(min_length=1, max_length=255)
    description: str | None = Field(default=None, max_length=1000)


class ListOrganizations(Command[OrganizationPage]):
    """List organisations by id: all of them to a superuser, the own one to everybody else."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "organization", "list")
    REPLY: ClassVar[type[Message]] = OrganizationPage

    credential: Credential
    skip: int = Field(ge=0, lt=2**63)
    limit: int = Field(ge=1, le=LARGEST_PAGE)


class OrganizationCommand(Command[ReplyT], Generic[ReplyT]):
    """What is asked about one organisation."""

    credential: Credential
    organization_id: Id

    def audit_object(self) -> tuple[str, str]:
        return "organization", str(self.organization_id)


class GetOrganization(OrganizationCommand[Organization]):
    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "organization", "get")
    REPLY: ClassVar[type[Message]] = Organization


class UpdateOrganization(OrganizationCommand[Organization]):
    """Change an organisation. Raises `ALREADY_EXISTS`."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "organization", "update")
    ACTION: ClassVar[str | None] = "org_update"
    REPLY: ClassVar[type[Message]] = Organization

    changes: OrganizationChanges


class DeleteOrganization(OrganizationCommand[Done]):
    """Delete an organisation. Raises `CONFLICT` while it has members."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "organization", "delete")
    ACTION: ClassVar[str | None] = "org_delete"
    REPLY: ClassVar[type[Message]] = Done


class ListMembers(OrganizationCommand[UserPage]):
    """List the users of an organisation by id."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "organization", "list_members")
    REPLY: ClassVar[type[Message]] = UserPage

    skip: int = Field(ge=0, lt=2**63)
    limit: int = Field(ge=1, le=LARGEST_PAGE)


class AddMember(OrganizationCommand[User]):
    """Let a user belong to the organisation; a superuser may take them out of another one."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "organization", "add_member")
    ACTION: ClassVar[str | None] = "org_add_user"
    REPLY: ClassVar[type[Message]] = User

    user_id: Id


class RemoveMember(OrganizationCommand[User]):
    """Let a member belong to no organisation. Raises `NOT_FOUND` for one of no or another one."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "organization", "remove_member")
    ACTION: ClassVar[str | None] = "org_remove_user"
    REPLY: ClassVar[type[Message]] = User

    user_id: Id


class Membership(Message):
    """None: the user belongs to no organisation, or there is no such user."""

    organization_id: Id | None


class GetMembership(Command[Membership]):
    """Say where a user belongs: to the service that the gateway asks next, and to nobody else."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "membership", "get")
    REPLY: ClassVar[type[Message]] = Membership

    user_id: Id
