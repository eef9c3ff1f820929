"""The only place with the names of subjects and streams."""

from enum import StrEnum
from typing import Final

EVENTS_STREAM: Final = "EVENTS"
AUDIT_STREAM: Final = "AUDIT"
EVENTS_WILDCARD: Final = "certwire.events.>"
AUDIT_WILDCARD: Final = "certwire.audit.>"
INBOUND_WILDCARD: Final = "certwire.inbound.>"
INBOUND_INSTANCE_STATUS: Final = "certwire.inbound.*.instance.status"


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


def command(service: Service, noun: str, verb: str) -> str:
    """Return the subject on which `service` takes a command."""
    return f"certwire.{service}.{noun}.{verb}"


def service_wildcard(service: Service) -> str:
    """Return the subjects that `service` answers on."""
    return f"certwire.{service}.>"


def event(noun: str, verb: str) -> str:
    """Return the subject of an event; the verb is in the past tense."""
    return f"certwire.events.{noun}.{verb}"


def audit_record(service: Service, action: str) -> str:
    """Return the subject of an audit record."""
    return f"certwire.audit.{service}.{action}"


def inbound_wildcard(user: str) -> str:
    """Return the subjects that the outside system `user` may publish requests on."""
    return f"certwire.inbound.{user}.>"


def inbound_user(subject: str) -> str:
    """Return the outside system that a request on an inbound subject comes from."""
    return subject.split(".")[2]
