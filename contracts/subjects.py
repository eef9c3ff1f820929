"""The only place with the names of subjects and streams."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

EVENTS_STREAM: Final = "EVENTS"
AUDIT_STREAM: Final = "AUDIT"
EVENTS_WILDCARD: Final = "certwire.events.>"
AUDIT_WILDCARD: Final = "certwire.audit.>"
INBOUND_WILDCARD: Final = "certwire.inbound.>"
INBOUND_INSTANCE_STATUS: Final = "certwire.inbound.*.instance.status"
AUDIT_CHECKPOINT: Final = "certwire.audit.checkpoint"
AUDIT_CONSUMER: Final = "audit"
"""The durable consumer of the audit service on the stream AUDIT."""
REQUEST_INFO: Final = "Nats-Request-Info"
"""The header in which the server says who sent a request that came from another account."""


class Service(StrEnum):
    """The services; each name is also its Postgres role, its schema and its NATS user."""

    GATEWAY = "gateway"
    ISSUER = "issuer"
    ACME = "acme"
    REGISTRY = "registry"
    INSTANCE = "instance"
    AUDIT = "audit"


CLI: Final = "cli"
"""The NATS user of the command line on the server."""

EVENT_SOURCES: Final[Mapping[str, frozenset[Service]]] = {
    "certificate": frozenset({Service.ISSUER, Service.ACME}),
    "ca": frozenset({Service.ISSUER}),
    "crl": frozenset({Service.ISSUER}),
    "agent": frozenset({Service.REGISTRY}),
    "token": frozenset({Service.REGISTRY}),
    "admin": frozenset({Service.REGISTRY}),
    "user": frozenset({Service.REGISTRY}),
    "organization": frozenset({Service.REGISTRY}),
    "api_key": frozenset({Service.REGISTRY}),
    "instance": frozenset({Service.INSTANCE}),
    "project": frozenset({Service.ACME}),
    "order": frozenset({Service.ACME}),
}
"""Who may publish the events of each noun; the NATS permissions are made from it."""


def command(service: Service, noun: str, verb: str) -> str:
    """Return the subject on which `service` takes a command."""
    return f"certwire.{service}.{noun}.{verb}"


def service_wildcard(service: Service) -> str:
    """Return the subjects that `service` answers on."""
    return f"certwire.{service}.>"


def event(noun: str, verb: str) -> str:
    """Return the subject of an event; the verb is in the past tense."""
    return f"certwire.events.{noun}.{verb}"


def events_of(noun: str) -> str:
    """Return the subjects of all events of a noun."""
    return f"certwire.events.{noun}.*"


def audit_record(service: Service, action: str) -> str:
    """Return the subject of an audit record."""
    return f"certwire.audit.{service}.{action}"


def audit_records_of(service: Service) -> str:
    """Return the subjects of a service's audit records."""
    return f"certwire.audit.{service}.*"


def inbound_wildcard(user: str) -> str:
    """Return the subjects that the outside system `user` may publish requests on."""
    return f"certwire.inbound.{user}.>"


def inbound_user(subject: str) -> str:
    """Return the outside system that a request on an inbound subject comes from."""
    return subject.split(".")[2]


def comes_from_a_client(request_info: str | None) -> bool:
    """Return whether a client sent an inbound request, whose user its permissions then vouch for.

    A reader may aim a JetStream reply at an inbound subject of somebody else: the server says of
    such a message that JetStream sent it.
    """
    try:
        info: object = json.loads(request_info or "null")
    except ValueError:
        return False
    return isinstance(info, dict) and info.get("kind") == "Client"


def inbox(user: str) -> str:
    """Return the prefix of the inboxes that belong to a NATS user."""
    return f"_INBOX_{user}"
