"""How a service says how it is."""

from typing import ClassVar

from contracts.messages import Command, Message
from contracts.subjects import CLI, Service, command


class StatusReport(Message):
    """A service's own view of itself; `missing` names what keeps it from being ready."""

    service: str
    version: str
    ready: bool
    missing: tuple[str, ...] = ()
    outbox_waiting: int | None = None
    warnings: tuple[str, ...] = ()


class GetStatus(Command[StatusReport]):
    """Ask a service how it is. One command for all; each service answers on its own subject."""

    REPLY: ClassVar[type[Message]] = StatusReport
    CALLERS: ClassVar[frozenset[str]] = frozenset({CLI, Service.GATEWAY})


def status_subject(service: Service) -> str:
    """Return where `service` answers `GetStatus`."""
    return command(service, "status", "get")
