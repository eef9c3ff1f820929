"""Commands of the audit service: what is on record."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field, JsonValue

from contracts.audit import Actor, AuditObject, Outcome
from contracts.messages import Command, Message
from contracts.principal import Principal
from contracts.subjects import Service, command

LARGEST_PAGE = 1000
"""What the fastpki dialect's `limit` takes; a reply of this size stays below `max_payload`."""


class KeptRecord(Message):
    """An audit record as readers of the log see it.

    `position` is its place in the log, `organization_id` the object's, else the actor's; `detail`
    None where it is too long for a list.
    """

    position: int
    time: datetime
    action: str
    actor: Actor
    object: AuditObject
    organization_id: int | None
    outcome: Outcome
    request_id: str
    detail: dict[str, JsonValue] | None


class KeptRecords(Message):
    records: tuple[KeptRecord, ...]


class ListAuditRecords(Command[KeptRecords]):
    """Records that meet every condition, the newest first.

    What was committed before the command is among them, as long as every service answers: the
    audit service waits for it, 2 seconds at most. Raises `FORBIDDEN`.
    """

    SUBJECT: ClassVar[str] = command(Service.AUDIT, "record", "list")
    REPLY: ClassVar[type[Message]] = KeptRecords

    actor: Principal
    action: str | None = None
    user_id: int | None = None
    object_type: str | None = None
    object_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """The moment itself included."""
    skip: int = Field(default=0, ge=0, lt=2**31)
    limit: int = Field(default=100, ge=1, le=LARGEST_PAGE)
