"""The relay: gives committed outbox rows their place in the chain, and publishes them.

1. One relay a service at a time, by an advisory lock on a connection of its own.
2. Rows without a sequence get the next ones, gapless, with the hash chain, and that is committed.
3. They are published in that order, audit record and event, and every acknowledgement awaited.
4. The cursor moves on, with the streams' identities and highest acknowledged sequences.
5. A stream that is younger than the one we knew, or that lost what it acknowledged, gets all rows
   that are still kept again.
6. Published rows older than 8 days are deleted.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from time import monotonic
from typing import Final

import asyncpg
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from prometheus_client import Counter, Gauge

from contracts.audit import chain
from contracts.subjects import AUDIT_STREAM, EVENTS_STREAM, Service, audit_record
from shared.database import LOST, Database
from shared.outbox import Backlog
from shared.streams import Acknowledged, PublishError, StreamMessage, StreamPublisher

LOG: Final = logging.getLogger(__name__)

BATCH: Final = 500
IDLE_SECONDS: Final = 0.2
"""How long a row that another replica wrote may wait: nobody nudges for it."""
INSPECT_SECONDS: Final = 2.0
"""How often the streams' identities are compared."""
PRUNE_SECONDS: Final = 3600.0
KEPT_DAYS: Final = 8
LOCK_CLASS: Final = 0x6F7574  # "out"
STREAMS: Final = (AUDIT_STREAM, EVENTS_STREAM)

WAITING = Gauge("certwire_outbox_waiting", "Outbox rows that are not published yet")
PUBLISHED = Counter("certwire_outbox_published_total", "Outbox rows published")
REWINDS = Counter("certwire_outbox_rewinds_total", "Times that everything kept was published again")

_UNSEQUENCED: Final = (
    "SELECT position, entry FROM outbox WHERE sequence IS NULL ORDER BY position LIMIT $1"
)
_HEAD: Final = "SELECT sequence, hash, published, streams FROM relay"
_SEQUENCE: Final = """
WITH placed AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[])
        AS t (position, sequence, previous_hash, hash)
), moved AS (
    UPDATE relay SET sequence = $5, hash = $6
)
UPDATE outbox SET sequence = placed.sequence, previous_hash = placed.previous_hash,
    hash = placed.hash
FROM placed WHERE outbox.position = placed.position
"""
_TO_PUBLISH: Final = """
SELECT sequence, previous_hash, hash, entry, event_headers, event_subject, event
FROM outbox WHERE sequence > $1 ORDER BY sequence LIMIT $2
"""
_PUBLISHED: Final = "UPDATE relay SET published = $1, streams = $2"
_REWIND: Final = """
UPDATE relay SET streams = '{}', published = coalesce((SELECT min(sequence) - 1 FROM outbox
    WHERE sequence IS NOT NULL), published)
"""
_COUNT_WAITING: Final = """
SELECT (SELECT count(*) FROM outbox WHERE sequence IS NULL) + sequence - published FROM relay
"""
_PRUNE: Final = """
DELETE FROM outbox USING relay WHERE outbox.sequence <= relay.published
    AND outbox.created_at < now() - make_interval(days => $1)
"""


class Relay:
    """Publishes the outbox of one service. `run` never returns; cancel it to stop."""

    def __init__(
        self, service: Service, database: Database, client: Client, backlog: Backlog
    ) -> None:
        self._service = service
        self._database = database
        self._jetstream = client.jetstream()
        self._backlog = backlog
        self._publisher = StreamPublisher(client)
        self._inspected = 0.0
        self._pruned = 0.0
        self._created: dict[str, str] = {}

    async def run(self) -> None:
        """Relay for as long as the process lives, through losses of Postgres and NATS."""
        await self._publisher.start()
        while True:
            try:
                await self._hold_lock_and_relay()
            except (*LOST, NatsError, JetStreamError, PublishError) as error:
                LOG.warning("the relay starts over", extra={"reason": str(error) or repr(error)})
            except Exception:
                LOG.exception("the relay starts over")
            await asyncio.sleep(IDLE_SECONDS)

    async def watch_backlog(self) -> None:
        """Keep the number of waiting rows current, in every replica."""
        while True:
            with suppress(Exception):
                async with self._database.connection() as connection:
                    self._backlog.waiting = await connection.fetchval(_COUNT_WAITING)
                WAITING.set(self._backlog.waiting)
            await asyncio.sleep(1)

    async def _hold_lock_and_relay(self) -> None:
        connection = await self._database.dedicated()
        try:
            while not await connection.fetchval(  # noqa: ASYNC110 - a lock of the database
                "SELECT pg_try_advisory_lock($1, hashtext($2))", LOCK_CLASS, str(self._service)
            ):
                await asyncio.sleep(1)  # another replica holds it
            self._inspected = 0.0
            while True:
                self._backlog.nudged.clear()
                moved = await self._step(connection)
                if not moved:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(IDLE_SECONDS):
                            await self._backlog.nudged.wait()
        finally:
            connection.terminate()

    async def _step(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        """Do one round; return whether there was anything to do."""
        sequenced = await self._sequence(connection)
        if monotonic() - self._inspected > INSPECT_SECONDS:
            await self._inspect(connection)
        published = await self._publish(connection)
        if monotonic() - self._pruned > PRUNE_SECONDS:
            await connection.execute(_PRUNE, KEPT_DAYS)
            self._pruned = monotonic()
        return sequenced or published

    async def _sequence(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        rows = await connection.fetch(_UNSEQUENCED, BATCH)
        if not rows:
            return False
        head = await connection.fetchrow(_HEAD)
        assert head is not None  # noqa: S101 - the migration put it there
        sequence, previous = head["sequence"], head["hash"]
        places: list[tuple[int, int, str, str]] = []
        for row in rows:
            sequence += 1
            record = chain(json.loads(row["entry"]), sequence, previous)
            places.append((row["position"], sequence, previous, str(record["hash"])))
            previous = str(record["hash"])
        columns: Sequence[Sequence[object]] = list(zip(*places, strict=True))
        await connection.execute(_SEQUENCE, *columns, sequence, previous)
        return True

    async def _publish(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        head = await connection.fetchrow(_HEAD)
        assert head is not None  # noqa: S101 - the migration put it there
        if head["published"] >= head["sequence"]:
            return False
        rows = await connection.fetch(_TO_PUBLISH, head["published"], BATCH)
        messages = [message for row in rows for message in self._messages(row)]
        acknowledged = await self._publisher.publish(messages)
        known = json.loads(head["streams"])
        if _went_back(known, acknowledged):
            await self._rewind(connection, "a stream acknowledged a lower sequence")
            return True
        for ack in acknowledged:
            highest = max(ack.sequence, known.get(ack.stream, {}).get("sequence", 0))
            known[ack.stream] = {"created": self._created[ack.stream], "sequence": highest}
        await connection.execute(_PUBLISHED, rows[-1]["sequence"], json.dumps(known))
        PUBLISHED.inc(len(rows))
        return True

    def _messages(self, row: asyncpg.Record) -> list[StreamMessage]:
        entry = json.loads(row["entry"])
        placed = {
            "sequence": row["sequence"],
            "previous_hash": row["previous_hash"],
            "hash": row["hash"],
        }
        record = json.dumps(
            entry | placed, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        messages = [
            StreamMessage(
                AUDIT_STREAM,
                audit_record(self._service, entry["action"]),
                f"{self._service}-{row['sequence']}",
                record.encode(),
                {},
            )
        ]
        if row["event"] is not None:
            messages.append(
                StreamMessage(
                    EVENTS_STREAM,
                    row["event_subject"],
                    entry["id"],
                    row["event"].encode(),
                    json.loads(row["event_headers"]),
                )
            )
        return messages

    async def _inspect(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        head = await connection.fetchrow(_HEAD)
        assert head is not None  # noqa: S101 - the migration put it there
        known = json.loads(head["streams"])
        infos = {stream: await self._jetstream.stream_info(stream) for stream in STREAMS}
        self._created = {stream: _created(info.created) for stream, info in infos.items()}
        self._inspected = monotonic()
        for stream, before in known.items():
            lost = infos[stream].state.last_seq < before["sequence"]
            if lost or before["created"] != self._created[stream]:
                await self._rewind(connection, f"stream {stream} is not the one we knew")
                return

    async def _rewind(self, connection: "asyncpg.Connection[asyncpg.Record]", reason: str) -> None:
        REWINDS.inc()
        LOG.warning("publishing everything kept again", extra={"reason": reason})
        await connection.execute(_REWIND)


def _created(moment: datetime | str | None) -> str:
    return moment.isoformat() if isinstance(moment, datetime) else str(moment)


def _went_back(known: dict[str, dict[str, int]], acknowledged: Sequence[Acknowledged]) -> bool:
    """Whether a stream that is said to be the same counts from a lower number than before."""
    return any(
        ack.sequence + BATCH < known.get(ack.stream, {}).get("sequence", 0) for ack in acknowledged
    )
