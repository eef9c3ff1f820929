"""The outbox: an audit record, and the event where there is one, in the change's transaction."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from pydantic import JsonValue

from contracts.audit import Actor, AuditEntry, AuditObject, Outcome, canonical_json
from contracts.events import Event
from contracts.principal import Principal
from shared.clock import rfc3339, utc_now
from shared.database import Connection
from shared.identifiers import uuid7

_INSERT: Final = """
INSERT INTO outbox (entry, event_headers, event_subject, event)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
"""

# The relay gives rows their sequence and moves its own in one statement.
_HEAD: Final = """
SELECT sequence, (
    SELECT max(position) FROM outbox WHERE outbox.sequence IS NULL AND position <= $1
) AS waiting
FROM relay
"""

_UNQUOTED: Final = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""Beside letters and digits: the NATS binding of CloudEvents, section 3.1.3.2."""

_NUL: Final = r"\u0000"
"""In JSON. Postgres' json functions fail on a text that holds one, which anybody may log in as."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A row as it is inserted: all text, so that statements can take many as arrays."""

    entry: str
    event_headers: str | None = None
    event_subject: str | None = None
    event: str | None = None


def outbox_row(
    service: str,
    request_id: str,
    actor: Principal | Actor,
    action: str,
    object: AuditObject,  # noqa: A002 - the field's name in the record
    *,
    outcome: Outcome = Outcome.SUCCESS,
    detail: dict[str, JsonValue] | None = None,
    event: Event | None = None,
    traceparent: str | None = None,
) -> OutboxRow:
    """Return the row of one audit record and its event; both share the id.

    Raises ValueError for a `detail` that canonical JSON cannot keep.
    """
    row_id, now = str(uuid7()), utc_now()
    entry = AuditEntry(
        id=row_id,
        service=service,
        time=now,
        actor=actor if isinstance(actor, Actor) else Actor.of(actor),
        action=action,
        object=object,
        outcome=outcome,
        detail=detail or {},
        request_id=request_id,
    )
    # The time is printed here: pydantic's form would drop microseconds that are zero.
    body = entry.model_dump(mode="json") | {"time": rfc3339(now)}
    text = canonical_json(body).decode()
    if _NUL in text:
        text = canonical_json(_without_nul(body)).decode()
    if event is None:
        return OutboxRow(text)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": row_id,
        "ce-source": f"/certwire/{service}",
        "ce-type": event.ce_type(),
        "ce-subject": quote(event.ce_subject(), safe=_UNQUOTED),
        "ce-time": body["time"],
        "ce-requestid": quote(request_id, safe=_UNQUOTED),
        "content-type": "application/json",
    }
    if traceparent is not None:
        headers["ce-traceparent"] = traceparent
    return OutboxRow(text, json.dumps(headers), event.nats_subject(), event.model_dump_json())


def _without_nul(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_nul(item) for name, item in value.items()}
    return value


def columns(
    rows: Sequence[OutboxRow],
) -> tuple[list[str], list[str | None], list[str | None], list[str | None]]:
    """Return the rows as four arrays, for `unnest` in a statement that does more."""
    return (
        [row.entry for row in rows],
        [row.event_headers for row in rows],
        [row.event_subject for row in rows],
        [row.event for row in rows],
    )


async def append(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    """Insert the rows in the transaction of the change that they tell of."""
    await connection.execute(_INSERT, *columns(rows))


async def head(connection: Connection, position: int) -> tuple[int, int | None]:
    """Return the last sequence given, and the last row up to `position` that has none yet."""
    row = await connection.fetchrow(_HEAD, position)
    assert row is not None  # noqa: S101 - the migration put it there
    return row["sequence"], row["waiting"]


class Backlog:
    """How many rows wait to be published, and the nudge for the relay in this process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.waiting = 0
        self.nudged: Final = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether changes have to be refused for now."""
        return self.waiting > self._limit

    def nudge(self) -> None:
        """Tell the relay that there is something to publish."""
        self.nudged.set()
