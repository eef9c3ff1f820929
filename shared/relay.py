"""The relay: gives committed outbox rows their place in the chain, and publishes them.

1. One relay a service at a time, by an advisory lock on the connection that does everything.
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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Final, TypedDict

import asyncpg
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from prometheus_client import Counter, Gauge
from pydantic import JsonValue

from contracts.audit import chain
from contracts.subjects import AUDIT_STREAM, EVENTS_STREAM, Service, audit_record
from shared.database import LOST, Database
from shared.outbox import Backlog
from shared.streams import PublishError, StreamMessage, StreamPublisher

LOG: Final = logging.getLogger(__name__)

BATCH: Final = 500
IDLE_SECONDS: Final = 0.2
"""How long a row that another replica wrote may wait: nobody nudges for it."""
INSPECT_SECONDS: Final = 2.0
"""How often the streams' identities are compared, beside after every reconnection."""
PRUNE_SECONDS: Final = 3600.0
PRUNE_BATCH: Final = 5000
KEPT_DAYS: Final = 8
LOCK_CLASS: Final = 0x6F7574  # "out"
STREAMS: Final = (AUDIT_STREAM, EVENTS_STREAM)
NEVER: Final = float("-inf")

WAITING = Gauge("certwire_outbox_waiting", "Outbox rows that are to be published")
PUBLISHED = Counter("certwire_outbox_published_total", "Outbox rows published")
REWINDS = Counter("certwire_outbox_rewinds_total", "Times that everything kept was published again")

_HEAD: Final = "SELECT sequence, hash, published, streams FROM relay"
_UNSEQUENCED: Final = """
SELECT position, entry, event_headers, event_subject, event
FROM outbox WHERE sequence IS NULL ORDER BY position LIMIT $1
"""
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
_PUBLISHED: Final = """
UPDATE relay SET published = $1, reached = greatest(reached, $1), streams = $2
"""
_REWIND: Final = """
UPDATE relay SET streams = '{}', published = coalesce((SELECT min(sequence) - 1 FROM outbox
    WHERE sequence IS NOT NULL), published)
RETURNING published
"""
_COUNT_WAITING: Final = """
SELECT fresh + sequence - published AS waiting, fresh + sequence - reached AS never_published
FROM relay, (SELECT count(*) AS fresh FROM outbox WHERE sequence IS NULL) AS unsequenced
"""
# From the front, as the sequence grows with time: a scan of everything would not end in time.
_PRUNE: Final = """
WITH oldest AS (
    SELECT position, created_at FROM outbox WHERE sequence <= (SELECT published FROM relay)
    ORDER BY sequence LIMIT $2
)
DELETE FROM outbox USING oldest WHERE outbox.position = oldest.position
    AND oldest.created_at < now() - make_interval(days => $1)
"""


class _Known(TypedDict):
    """What is known of a stream: its identity, and its highest sequence acknowledged to us."""

    created: str
    sequence: int


@dataclass(slots=True)
class _Head:
    """The row of the table `relay`: only who holds the lock changes it, so it is read once."""

    sequence: int
    hash: str
    published: int
    streams: dict[str, _Known]

    @classmethod
    async def read(cls, connection: "asyncpg.Connection[asyncpg.Record]") -> "_Head":
        row = await connection.fetchrow(_HEAD)
        assert row is not None  # noqa: S101 - the migration put it there
        return cls(row["sequence"], row["hash"], row["published"], json.loads(row["streams"]))


@dataclass(frozen=True, slots=True)
class _Placed:
    """A row at its place in the chain."""

    row: asyncpg.Record
    entry: dict[str, JsonValue]
    sequence: int
    previous_hash: str
    hash: str

    @classmethod
    def read(cls, row: asyncpg.Record) -> "_Placed":
        entry = json.loads(row["entry"])
        return cls(row, entry, row["sequence"], row["previous_hash"], row["hash"])

    def record(self) -> bytes:
        """Return the audit record in JSON."""
        entry: str = self.row["entry"]
        place = (
            f',"hash":"{self.hash}","previous_hash":"{self.previous_hash}"'
            f',"sequence":{self.sequence}}}'
        )
        return (entry.removesuffix("}") + place).encode()


class Relay:
    """Publishes the outbox of one service. `run` never returns; cancel it to stop."""

    def __init__(
        self, service: Service, database: Database, client: Client, backlog: Backlog
    ) -> None:
        self._service = service
        self._database = database
        self._client = client
        self._jetstream = client.jetstream()
        self._backlog = backlog
        self._publisher = StreamPublisher(client)
        self._inspected_at = NEVER
        self._reconnects = 0
        self._prune_at = NEVER
        self._created: dict[str, str] = {}
        self._trouble: str | None = None

    async def run(self) -> None:
        """Relay for as long as the process lives, through losses of Postgres and NATS."""
        await self._publisher.start()
        while True:
            try:
                await self._hold_lock_and_relay()
            except (*LOST, NatsError, JetStreamError, PublishError) as error:
                self._starts_over(str(error) or repr(error))
            except Exception:
                LOG.exception("the relay starts over")
            await asyncio.sleep(IDLE_SECONDS)

    async def watch_backlog(self) -> None:
        """Keep the number of waiting rows current, in every replica."""
        while True:
            with suppress(Exception):
                async with self._database.connection() as connection:
                    row = await connection.fetchrow(_COUNT_WAITING)
                assert row is not None  # noqa: S101 - the migration put it there
                self._backlog.waiting = row["never_published"]
                WAITING.set(row["waiting"])
            await asyncio.sleep(1)

    async def _hold_lock_and_relay(self) -> None:
        while not self._client.is_connected:  # noqa: ASYNC110 - it reconnects by itself
            await asyncio.sleep(IDLE_SECONDS)  # and leaves the lock to a replica with NATS
        connection = await self._database.dedicated()
        try:
            while not await connection.fetchval(  # noqa: ASYNC110 - a lock of the database
                "SELECT pg_try_advisory_lock($1, hashtext($2))", LOCK_CLASS, str(self._service)
            ):
                await asyncio.sleep(1)  # another replica holds it
            head = await _Head.read(connection)
            self._inspected_at = NEVER
            while True:
                self._backlog.nudged.clear()
                moved = await self._step(connection, head)
                self._trouble = None
                if not moved:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(IDLE_SECONDS):
                            await self._backlog.nudged.wait()
        finally:
            connection.terminate()

    async def _step(self, connection: "asyncpg.Connection[asyncpg.Record]", head: _Head) -> bool:
        """Do one round; return whether there was anything to do."""
        placed = await self._sequence(connection, head)
        if self._is_due_to_inspect():
            await self._inspect(connection, head)
        if head.published < head.sequence - len(placed):  # there are others before them
            rows = await connection.fetch(_TO_PUBLISH, head.published, BATCH)
            placed = [_Placed.read(row) for row in rows]
        if placed:
            await self._publish(connection, head, placed)
        if monotonic() > self._prune_at:
            await self._prune(connection)
        return bool(placed)

    async def _sequence(
        self, connection: "asyncpg.Connection[asyncpg.Record]", head: _Head
    ) -> list[_Placed]:
        placed: list[_Placed] = []
        sequence, previous = head.sequence, head.hash
        for row in await connection.fetch(_UNSEQUENCED, BATCH):
            sequence += 1
            entry = json.loads(row["entry"])
            digest = str(chain(entry, sequence, previous)["hash"])
            placed.append(_Placed(row, entry, sequence, previous, digest))
            previous = digest
        if placed:
            columns = zip(
                *((p.row["position"], p.sequence, p.previous_hash, p.hash) for p in placed),
                strict=True,
            )
            await connection.execute(_SEQUENCE, *columns, sequence, previous)
            head.sequence, head.hash = sequence, previous
        return placed

    async def _publish(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        head: _Head,
        placed: Sequence[_Placed],
    ) -> None:
        messages = [message for row in placed for message in self._messages(row)]
        known = dict(head.streams)
        for stream, acknowledged in (await self._publisher.publish(messages)).items():
            before = known[stream]["sequence"] if stream in known else 0
            if acknowledged.lowest_new is not None and acknowledged.lowest_new <= before:
                await self._rewind(connection, head, f"stream {stream} lost what it acknowledged")
                return
            known[stream] = {
                "created": self._created[stream],
                "sequence": max(acknowledged.highest, before),
            }
        reached = placed[-1].sequence
        await connection.execute(_PUBLISHED, reached, json.dumps(known))
        head.published, head.streams = reached, known
        PUBLISHED.inc(len(placed))

    def _messages(self, placed: _Placed) -> Iterator[StreamMessage]:
        row, entry = placed.row, placed.entry
        yield StreamMessage(
            AUDIT_STREAM,
            audit_record(self._service, str(entry["action"])),
            f"{self._service}-{placed.sequence}",
            placed.record(),
            {},
        )
        if row["event"] is not None:
            yield StreamMessage(
                EVENTS_STREAM,
                row["event_subject"],
                str(entry["id"]),
                row["event"].encode(),
                json.loads(row["event_headers"]),
            )

    def _is_due_to_inspect(self) -> bool:
        reconnected = self._client.stats["reconnects"] != self._reconnects
        return reconnected or monotonic() - self._inspected_at > INSPECT_SECONDS

    async def _inspect(self, connection: "asyncpg.Connection[asyncpg.Record]", head: _Head) -> None:
        reconnects = self._client.stats["reconnects"]
        infos = {stream: await self._jetstream.stream_info(stream) for stream in STREAMS}
        self._created = {stream: _printed(info.created) for stream, info in infos.items()}
        self._reconnects, self._inspected_at = reconnects, monotonic()
        for stream, known in head.streams.items():
            lost = infos[stream].state.last_seq < known["sequence"]
            if lost or known["created"] != self._created[stream]:
                await self._rewind(connection, head, f"stream {stream} is not the one we knew")
                return

    async def _rewind(
        self, connection: "asyncpg.Connection[asyncpg.Record]", head: _Head, reason: str
    ) -> None:
        REWINDS.inc()
        LOG.warning("publishing everything kept again", extra={"reason": reason})
        head.published = await connection.fetchval(_REWIND)
        head.streams = {}

    async def _prune(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        done = await connection.execute(_PRUNE, KEPT_DAYS, PRUNE_BATCH)
        if done != f"DELETE {PRUNE_BATCH}":
            self._prune_at = monotonic() + PRUNE_SECONDS

    def _starts_over(self, reason: str) -> None:
        if reason != self._trouble:  # it tries five times a second
            LOG.warning("the relay starts over", extra={"reason": reason})
        self._trouble = reason


def _printed(moment: datetime | str | None) -> str:
    return moment.isoformat() if isinstance(moment, datetime) else str(moment)
