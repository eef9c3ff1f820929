"""What every command has in common."""

from typing import Annotated, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from contracts.subjects import Service

PAGE_LIMIT = 500
"""The most rows that one reply carries over the bus (8 MB `max_payload`)."""

Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SerialHex = Annotated[str, Field(pattern=r"^[0-9a-f]{1,40}$")]
"""A serial number in lower-case hex without leading zeros; dialects choose their own casing."""


class Message(BaseModel):
    """Anything that crosses the bus: immutable, and closed to unknown fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # it may hold a secret, and errors are logged
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )


class IdempotencyKey(Message):
    """A caller's `Idempotency-Key`.

    `scope` is the hash of the credential (of the token, on public token endpoints); `request` is
    the hash of method, path and body, so that the same key with another body is told apart.
    """

    scope: Sha256Hex
    key: str = Field(min_length=1, max_length=255)
    request: Sha256Hex


class Call(Message):
    """The circumstances of a command: which request it serves and until when.

    `deadline` is in Unix seconds; a service does not begin what nobody waits for any more.
    """

    request_id: str
    deadline: float
    traceparent: str | None = None
    idempotency: IdempotencyKey | None = None
    source_address: str | None = None


ReplyT = TypeVar("ReplyT", bound=Message)


class Command(Message, Generic[ReplyT]):
    """A request to a service to do something, in the imperative.

    `CALLERS` says who may send it; the NATS permissions are made from it. A command that changes
    something has an `ACTION`: its refusals are recorded under it, and an overloaded service does
    not take it.
    """

    SUBJECT: ClassVar[str]
    REPLY: ClassVar[type[Message]]
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.GATEWAY})
    ACTION: ClassVar[str | None] = None
    """The audit action of a command that changes something; None for one that only reads."""
    PUBLIC: ClassVar[bool] = False
    """Whether it is asked without any credential, so that its refusals are not recorded."""

    call: Call

    def audit_object(self) -> tuple[str, str]:
        """Return type and id of what the command is about, for the record of its refusal."""
        return self.SUBJECT.split(".")[2], ""


class Done(Message):
    """The reply of a command whose success says everything."""
