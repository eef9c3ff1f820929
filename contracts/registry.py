"""Commands of the registry: who is who."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from contracts.messages import Command, Done, Message
from contracts.principal import Credential, Principal
from contracts.subjects import CLI, Service, command


class ResolvedCredentials(Message):
    """One entry for each credential asked about, in order; None for one that is nobody's."""

    principals: tuple[Principal | None, ...]


class ResolveCredentials(Command[ResolvedCredentials]):
    """Say who the credentials stand for now; look-ups that wait together share one command.

    A credential that is refused is recorded with the address and request it came from.
    """

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "credential", "resolve")
    REPLY: ClassVar[type[Message]] = ResolvedCredentials

    class Question(Message):
        credential: Credential
        request_id: str
        source_address: str | None = None

    questions: tuple[Question, ...] = Field(min_length=1, max_length=500)


class TokenPair(Message):
    """Secrets that are shown once. Lifetimes: 15 minutes and 24 hours."""

    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    access_expires_at: datetime


class LogIn(Command[TokenPair]):
    """Exchange a password for a session.

    Raises `LOGIN_FAILED`, or `RATE_LIMITED` after 5 attempts a minute for (user, address) or 20
    for the address.
    """

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "session", "create")
    ACTION: ClassVar[str | None] = "login_failure"
    REPLY: ClassVar[type[Message]] = TokenPair

    username: str = Field(max_length=255)
    password: str = Field(max_length=1024, repr=False)

    def audit_object(self) -> tuple[str, str]:
        return "user", self.username


class AdminBundle(Message):
    """A new administrator's certificate; the password is shown once and never stored."""

    pkcs12: bytes
    password: str = Field(repr=False)
    serial_hex: str
    expires_at: datetime


class ResetAdmin(Command[AdminBundle]):
    """Make a new PKCS#12 administrator and revoke the previous one, whatever its state."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "admin", "reset")
    ACTION: ClassVar[str | None] = "admin_reset"
    REPLY: ClassVar[type[Message]] = AdminBundle
    CALLERS: ClassVar[frozenset[str]] = frozenset({CLI})

    def audit_object(self) -> tuple[str, str]:
        return "admin", "admin"


class CompleteOnboarding(Command[Done]):
    """End the FRESH state; idempotent."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "onboarding", "complete")
    ACTION: ClassVar[str | None] = "onboarding_complete"
    REPLY: ClassVar[type[Message]] = Done
    CALLERS: ClassVar[frozenset[str]] = frozenset({CLI})

    def audit_object(self) -> tuple[str, str]:
        return "platform", "onboarding"
