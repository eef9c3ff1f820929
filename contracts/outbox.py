"""How far a service's audit records go."""

from typing import ClassVar, Final

from contracts.messages import Command, Message
from contracts.subjects import Service, command

WITH_OUTBOX: Final = tuple(service for service in Service if service is not Service.GATEWAY)
"""The services that write audit records: the gateway has no database."""


class OutboxHead(Message):
    """The sequence of the last record of all that were committed; 0 without any."""

    sequence: int


class GetOutboxHead(Command[OutboxHead]):
    """Ask where in its chain everything stands that a service has committed by now.

    It answers once its relay has given all of that a place. One command for all; each service
    answers on its own subject. Raises `OUTCOME_UNKNOWN` where the relay does not come to it by the
    deadline.
    """

    REPLY: ClassVar[type[Message]] = OutboxHead
    CALLERS: ClassVar[frozenset[str]] = frozenset({Service.AUDIT})


def outbox_subject(service: Service) -> str:
    """Return where `service` answers `GetOutboxHead`."""
    return command(service, "outbox", "head")
