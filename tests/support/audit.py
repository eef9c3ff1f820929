"""Audit records as a service's relay would chain them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nats.aio.client import Client
from pydantic import JsonValue

from contracts.audit import GENESIS_HASH, Actor, AuditEntry, AuditObject, Outcome, canonical_json
from contracts.audit import chain as chained
from contracts.subjects import AUDIT_STREAM, Service, audit_record
from services.audit.domain.verification import Arrival
from shared.broker import close, connect, nats_broker
from shared.clock import rfc3339, utc_now
from shared.identifiers import uuid7
from shared.settings import Settings
from tests.support.servers import Place

ZOE = Actor(kind="user", id="7", name="Zoë", organization_id=3)
SOMETHING = AuditObject(type="certificate", id="ab12", name="CN=x")


@dataclass
class Chain:
    """The chain of one service; `next` makes its next record."""

    service: Service = Service.ISSUER
    sequence: int = 0
    hash: str = GENESIS_HASH
    made: list[dict[str, JsonValue]] = field(default_factory=list)
    actor: Actor = ZOE
    about: AuditObject = SOMETHING

    def next(self, action: str = "cert_create", **detail: JsonValue) -> dict[str, JsonValue]:
        now = utc_now()
        entry = AuditEntry(
            id=str(uuid7()),
            service=self.service,
            time=now,
            actor=self.actor,
            action=action,
            object=self.about,
            outcome=Outcome.SUCCESS,
            detail=detail,
            request_id="request-1",
        )
        body = entry.model_dump(mode="json") | {"time": rfc3339(now)}
        record = chained(body, self.sequence + 1, self.hash)
        self.sequence, self.hash = self.sequence + 1, str(record["hash"])
        self.made.append(record)
        return record

    def take(self, count: int) -> list[Arrival]:
        """Return the next records as they would arrive."""
        return [arrival(self.next()) for _ in range(count)]


def arrival(record: dict[str, JsonValue], subject: str | None = None) -> Arrival:
    """Return a record as the stream delivers it."""
    own = audit_record(Service(str(record["service"])), str(record["action"]))
    return Arrival(subject or own, canonical_json(record))


def altered(record: dict[str, JsonValue], **changes: JsonValue) -> dict[str, JsonValue]:
    """Return the record with changes that its hash knows nothing of."""
    return {**record, **changes}


@asynccontextmanager
async def streams_client(place: Place, user: str) -> AsyncIterator[Client]:
    """Lend a connection to the streams as a service."""
    broker = nats_broker(place.settings(Settings), user, "streams")
    try:
        yield await connect(broker)
    finally:
        await close(broker)


async def publish(place: Place, arrivals: Sequence[Arrival], user: str = "issuer") -> None:
    """Put messages on the audit stream, as a service's relay does."""
    async with streams_client(place, user) as client:
        jetstream = client.jetstream()
        for each in arrivals:
            await jetstream.publish(each.subject, each.payload, stream=AUDIT_STREAM)
