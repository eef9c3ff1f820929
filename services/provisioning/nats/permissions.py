"""Who may publish and subscribe what: three accounts, generated from the contracts.

- BUS: commands and replies. A service hears its own subjects and inbox, and publishes the commands
  whose `CALLERS` name it, and replies to the inboxes of its own callers.
- STREAMS: services publish their audit records and events; only `audit` consumes.
- READERS: operators and subscribers, on mirrors of the streams. Whoever creates a JetStream
  consumer can aim it at any subject of the account, so outsiders have this one to themselves.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import contracts
from contracts.messages import Command
from contracts.outbox import WITH_OUTBOX, GetOutboxHead, outbox_subject
from contracts.status import GetStatus, status_subject
from contracts.subjects import (
    AUDIT_CHECKPOINT,
    AUDIT_CONSUMER,
    AUDIT_STREAM,
    CLI,
    EVENT_SOURCES,
    EVENTS_STREAM,
    INBOUND_INSTANCE_STATUS,
    Service,
    audit_records_of,
    events_of,
    inbound_wildcard,
    inbox,
    service_wildcard,
)

OPERATOR: Final = "operator"
"""Reads both streams: `certwire audit tail` and `certwire events tail`."""
PROVISION: Final = "provision"
"""Creates the streams; used by `certwire init` only."""
STREAMS: Final = (EVENTS_STREAM, AUDIT_STREAM)
API: Final = "$JS.API"
SERVICE_IMPORT_REPLIES: Final = "_R_.>"
"""Where the server takes replies to requests that came from another account."""
SUBSCRIBER_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
"""A token of a subject and of a file name; 32 characters are enough to be told apart."""


class Account(StrEnum):
    """The accounts of the NATS server."""

    BUS = "bus"
    STREAMS = "streams"
    READERS = "readers"


@dataclass(frozen=True, order=True)
class User:
    """A NATS user: one nkey. The same part is another user in each account."""

    name: str
    account: Account


@dataclass(frozen=True)
class Permissions:
    """Subjects that a user may publish to and subscribe to; anything else is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def users(subscribers: Sequence[str] = ()) -> dict[User, Permissions]:
    """Return every user with its permissions. Raises ValueError for a subscriber's bad name."""
    callers = commands()
    granted = {User(name, Account.BUS): _bus(name, callers) for name in [*Service, CLI]}
    for service in Service:
        if service is not Service.GATEWAY:  # it has no database, so no outbox
            granted[User(service, Account.STREAMS)] = _streams(service)
    granted[User(PROVISION, Account.STREAMS)] = _provision_streams()
    granted[User(PROVISION, Account.READERS)] = _provision_readers()
    granted[User(OPERATOR, Account.READERS)] = _operator()
    for name in subscribers:
        granted[User(subscriber_name(name), Account.READERS)] = _subscriber(name)
    return granted


def subscriber_name(name: str) -> str:
    """Return the name of an outside system. Raises ValueError where it can't be one."""
    if not SUBSCRIBER_NAME.fullmatch(name) or name in {*Service, CLI, OPERATOR, PROVISION}:
        raise ValueError(
            f"{name!r} can't name a subscriber: 1 to 32 lower-case letters, digits and hyphens,"
            " and no part of the platform"
        )
    return name


def commands() -> dict[str, frozenset[str]]:
    """Return the subject of every command in the contracts, with who may send it."""
    for module in pkgutil.iter_modules(contracts.__path__, "contracts."):
        importlib.import_module(module.name)
    found: dict[str, frozenset[str]] = {
        **{status_subject(service): GetStatus.CALLERS for service in Service},
        **{outbox_subject(service): GetOutboxHead.CALLERS for service in WITH_OUTBOX},
    }
    for command in _subclasses(Command):
        subject: str | None = getattr(command, "SUBJECT", None)
        if subject is not None and command.__module__.startswith("contracts."):
            found[subject] = command.CALLERS
    return found


def _subclasses(command: type[Command[Any]]) -> Iterator[type[Command[Any]]]:
    for subclass in command.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _bus(name: str, callers: dict[str, frozenset[str]]) -> Permissions:
    publish = {subject for subject, who in callers.items() if name in who}
    subscribe = {f"{inbox(name)}.>"}
    if name in set(Service):
        prefix = service_wildcard(Service(name)).removesuffix(">")
        subscribe.add(f"{prefix}>")
        # Listed rather than `allow_responses`, with which a caller chooses where a reply goes.
        publish |= {
            f"{inbox(caller)}.>"
            for subject, who in callers.items()
            if subject.startswith(prefix)
            for caller in who
        }
    if name == Service.INSTANCE:
        subscribe.add(INBOUND_INSTANCE_STATUS)
        publish.add(SERVICE_IMPORT_REPLIES)
    return _sorted(publish, subscribe)


def _streams(service: Service) -> Permissions:
    publish = {audit_records_of(service)}
    publish |= {events_of(noun) for noun, by in EVENT_SOURCES.items() if service in by}
    publish |= {f"{API}.STREAM.INFO.{stream}" for stream in STREAMS}
    if service is Service.AUDIT:
        consumer = f"{AUDIT_STREAM}.{AUDIT_CONSUMER}"
        publish |= {
            AUDIT_CHECKPOINT,
            f"{API}.CONSUMER.INFO.{consumer}",
            f"{API}.CONSUMER.MSG.NEXT.{consumer}",
            f"{API}.CONSUMER.RESET.{consumer}",
            f"$JS.ACK.{consumer}.>",
        }
    return _sorted(publish, {f"{inbox(service)}.>"})


def _provision_streams() -> Permissions:
    consumer = f"{AUDIT_STREAM}.{AUDIT_CONSUMER}"
    publish = {
        f"{API}.STREAM.{verb}.{stream}"
        for verb in ("CREATE", "UPDATE", "INFO")
        for stream in STREAMS
    }
    publish |= {f"{API}.CONSUMER.{verb}.{consumer}" for verb in ("CREATE", "INFO")}
    return _sorted(publish, {f"{inbox(PROVISION)}.>"})


def _provision_readers() -> Permissions:
    publish = {
        f"{API}.STREAM.{verb}.{stream}"
        for verb in ("CREATE", "UPDATE", "INFO", "DELETE")  # a mirror is a copy
        for stream in STREAMS
    }
    return _sorted(publish, {f"{inbox(PROVISION)}.>"})


def _operator() -> Permissions:
    publish: set[str] = set()
    for stream in STREAMS:
        publish |= {
            f"{API}.STREAM.INFO.{stream}",
            f"{API}.CONSUMER.CREATE.{stream}",  # ephemeral ones
            f"$JS.FC.{stream}.>",
        }
    return _sorted(publish, {f"{inbox(OPERATOR)}.>"})


def _subscriber(name: str) -> Permissions:
    """Let an outside system report what it saw, and read EVENTS by the consumer of its name."""
    consumer = f"{EVENTS_STREAM}.{name}"
    publish = {
        inbound_wildcard(name),
        f"{API}.STREAM.INFO.{EVENTS_STREAM}",
        f"{API}.CONSUMER.CREATE.{consumer}",
        f"{API}.CONSUMER.CREATE.{consumer}.>",
        f"{API}.CONSUMER.DURABLE.CREATE.{consumer}",
        f"{API}.CONSUMER.INFO.{consumer}",
        f"{API}.CONSUMER.DELETE.{consumer}",
        f"{API}.CONSUMER.MSG.NEXT.{consumer}",
        f"$JS.ACK.{consumer}.>",
        f"$JS.FC.{consumer}.>",
    }
    return _sorted(publish, {f"{inbox(name)}.>"})


def _sorted(publish: set[str], subscribe: set[str]) -> Permissions:
    return Permissions(tuple(sorted(publish)), tuple(sorted(subscribe)))
