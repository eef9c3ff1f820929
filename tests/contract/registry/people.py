"""What a gateway says to the registry for users."""

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Call, Command
from contracts.principal import Credential, CredentialKind, Principal, Role
from contracts.registry import LogIn, ResolveCredentials, TokenPair
from contracts.users import (
    AddMember,
    CreateOrganization,
    CreateUser,
    Organization,
    RefreshSession,
    UpdateUser,
    User,
    UserChanges,
)
from shared.broker import Bus
from shared.secrets import token_hash
from tests.contract.registry.dialogue import keyed
from tests.support.registry import Tables
from tests.support.running import call

PASSWORD = "correct horse"


def bearer(token: str) -> Credential:
    """Return an access token as it is presented."""
    return Credential(kind=CredentialKind.BEARER, sha256=token_hash(token))


@dataclass(frozen=True)
class Person:
    """A user who is logged in."""

    user: User
    pair: TokenPair = field(repr=False)

    @property
    def id(self) -> int:
        """Return the user's id."""
        return self.user.id

    @property
    def token(self) -> str:
        """Return the access token."""
        return self.pair.access_token


@dataclass
class People:
    """The gateway's side; `root` is the superuser that `init` made."""

    gateway: Bus
    tables: Tables
    root: Person
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    async def send(self, command: Command[Any]) -> Any:  # noqa: ANN401 - each command has its reply
        """Send one command."""
        return await self.gateway.request(command)

    async def code(self, command: Command[Any]) -> ErrorCode | None:
        """Return how a command is refused; None where it is not."""
        try:
            await self.send(command)
        except CertwireError as error:
            return error.code
        return None

    async def ask(self, who: Person, kind: type[Command[Any]], **fields: Any) -> Any:  # noqa: ANN401 - any field of the command
        """Send a command with somebody's access token."""
        return await self.send(said(who, kind, **fields))

    async def refusal(
        self,
        who: Person,
        kind: type[Command[Any]],
        **fields: Any,  # noqa: ANN401 - any field of the command
    ) -> ErrorCode | None:
        """Return how somebody is refused a command; None where they are not."""
        return await self.code(said(who, kind, **fields))

    async def log_in(self, username: str, password: str = PASSWORD) -> TokenPair:
        """Exchange a password for a session."""
        pair: TokenPair = await self.send(LogIn(call=call(), username=username, password=password))
        return pair

    async def refresh(self, token: str, key: str | None = None) -> TokenPair:
        """Refresh a session, under an Idempotency-Key where one is given."""
        pair: TokenPair = await self.send(refreshing(token, key))
        return pair

    async def user(self, role: Role = Role.USER, **fields: Any) -> User:  # noqa: ANN401 - any field of the command
        """Let the superuser make a user."""
        user: User = await self.ask(self.root, CreateUser, **self.new(role=role, **fields))
        return user

    async def person(self, role: Role = Role.USER, **fields: Any) -> Person:  # noqa: ANN401 - any field of the command
        """Let the superuser make a user, who logs in."""
        user = await self.user(role, **fields)
        return Person(user, await self.log_in(user.username))

    async def again(self, person: Person, password: str = PASSWORD) -> Person:
        """Log in as somebody once more."""
        return Person(person.user, await self.log_in(person.user.username, password))

    def new(self, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of the command
        """Return the fields that make a user nobody has made before."""
        name = f"user-{next(self._numbers)}"
        return {
            "username": name,
            "email": f"{name}@example.com",
            "password": PASSWORD,
            **fields,
        }

    async def organization(self, name: str | None = None) -> Organization:
        """Let the superuser make an organisation."""
        made: Organization = await self.ask(
            self.root, CreateOrganization, name=name or f"Organisation {next(self._numbers)}"
        )
        return made

    async def joins(self, user_id: int, organization_id: int) -> User:
        """Let the superuser put somebody into an organisation."""
        user: User = await self.ask(
            self.root, AddMember, organization_id=organization_id, user_id=user_id
        )
        return user

    async def change(self, who: Person, user_id: int | None, **changes: Any) -> User:  # noqa: ANN401 - any change
        """Change a user."""
        user: User = await self.ask(
            who, UpdateUser, user_id=user_id, changes=UserChanges(**changes)
        )
        return user

    async def who(self, token: str) -> Principal | None:
        """Ask whom a token stands for, as the gateway does for other services."""
        question = ResolveCredentials.Question(credential=bearer(token), request_id="r")
        reply = await self.send(ResolveCredentials(call=call(), questions=(question,)))
        principal: Principal | None = reply.principals[0]
        return principal

    async def recorded(self, outcome: str = "success") -> list[dict[str, Any]]:
        """Return the audit records, without those of logins, in order."""
        entries = await self.tables.values(
            "SELECT entry FROM registry.outbox WHERE entry::json->>'outcome' = $1"
            " AND entry::json->>'action' NOT LIKE 'login%' ORDER BY position",
            outcome,
        )
        return [json.loads(entry) for entry in entries]

    async def last(self, outcome: str = "success") -> dict[str, Any]:
        """Return the last audit record."""
        return (await self.recorded(outcome))[-1]

    async def last_event(self) -> tuple[str, dict[str, Any]]:
        """Return the subject and the body of the last event."""
        [row] = await self.tables.run(
            "SELECT event_subject, event FROM registry.outbox WHERE event IS NOT NULL"
            " ORDER BY position DESC LIMIT 1"
        )
        subject: str = row["event_subject"]
        return subject.removeprefix("certwire.events."), json.loads(row["event"])


def said(who: Person, kind: type[Command[Any]], **fields: Any) -> Command[Any]:  # noqa: ANN401 - any field of the command
    """Return a command with somebody's access token."""
    return kind(**{"call": call(), "credential": bearer(who.token), **fields})


def refreshing(token: str, key: str | None = None) -> RefreshSession:
    """Return a refresh."""
    spent = token_hash(token)
    circumstances: Call = keyed(key, spent) if key else call()
    return RefreshSession(call=circumstances, refresh_sha256=spent)
