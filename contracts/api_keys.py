"""Commands of the registry about API keys: what deployment tools call with, and who gives them one.

Only superusers send these, with their own token, which the registry resolves in the transaction
that acts. Ids are integers and never used again.
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from contracts.messages import PAGE_LIMIT, Command, Done, Message
from contracts.pki import OneLine
from contracts.principal import Credential
from contracts.subjects import Service, command
from contracts.users import Id


class ProjectAccess(StrEnum):
    """What a key may do with projects and their certificates; who may write may read."""

    NONE = "none"
    READ = "read"
    WRITE = "write"


class KeyAccess(StrEnum):
    """Whether a key may fetch the private keys of certificates."""

    NONE = "none"
    READ = "read"


class Permission(StrEnum):
    """A capability of an API key's principal, as the services check it."""

    PROJECTS_READ = "projects:read"
    PROJECTS_WRITE = "projects:write"
    KEYS_READ = "keys:read"


class KeyPermissions(Message):
    """What a key may do, an area each."""

    projects: ProjectAccess
    keys: KeyAccess = KeyAccess.NONE

    def capabilities(self) -> tuple[Permission, ...]:
        """Return what its principal may do."""
        granted = {
            Permission.PROJECTS_READ: self.projects is not ProjectAccess.NONE,
            Permission.PROJECTS_WRITE: self.projects is ProjectAccess.WRITE,
            Permission.KEYS_READ: self.keys is KeyAccess.READ,
        }
        return tuple(permission for permission, given in granted.items() if given)


class ApiKey(Message):
    """A key as it is shown: never with anything of the secret."""

    id: Id
    name: str
    permissions: KeyPermissions
    created_at: datetime


class CreatedApiKey(Message):
    """A new key with its secret, which is shown once and stored only as a hash."""

    api_key: ApiKey
    secret: str = Field(repr=False)


class ApiKeyPage(Message):
    api_keys: tuple[ApiKey, ...]
    next_cursor: str | None


class CreateApiKey(Command[CreatedApiKey]):
    """Make a key; it counts until it is deleted."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "api_key", "create")
    ACTION: ClassVar[str | None] = "api_key_create"
    REPLY: ClassVar[type[Message]] = CreatedApiKey

    credential: Credential
    name: OneLine
    permissions: KeyPermissions


class ListApiKeys(Command[ApiKeyPage]):
    """List the keys that count, in the order of their creation."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "api_key", "list")
    REPLY: ClassVar[type[Message]] = ApiKeyPage

    credential: Credential
    limit: int = Field(ge=1, le=PAGE_LIMIT)
    cursor: str | None = None


class DeleteApiKey(Command[Done]):
    """Make a key nobody's: no request that begins after the reply succeeds with it.

    Raises `NOT_FOUND`, for one that is deleted too.
    """

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "api_key", "delete")
    ACTION: ClassVar[str | None] = "api_key_delete"
    REPLY: ClassVar[type[Message]] = Done

    credential: Credential
    api_key_id: Id

    def audit_object(self) -> tuple[str, str]:
        return "api_key", str(self.api_key_id)
