"""Keeps the audit stream's records: one collector at a time, by an advisory lock.

1. Take what has come.
2. Examine each message alone, and place the genuine ones behind the last record of their service.
3. One transaction: records that have their place, early ones that wait, violations quarantined,
   each with an audit record of its own.
4. Acknowledge. What is lost before that comes again, and is a duplicate.
5. Give early records their place, where what was missing has come.
6. Where something stays missing, read the whole stream again: duplicates are told apart.
"""

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic
from typing import Final

import asyncpg
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from prometheus_client import Counter, Gauge

from contracts.audit import AuditObject, Outcome
from contracts.principal import system
from contracts.subjects import AUDIT_CHECKPOINT, AUDIT_CONSUMER, AUDIT_STREAM, Service
from services.audit import store
from services.audit.domain.verification import (
    Arrival,
    Genuine,
    Head,
    Placement,
    Violation,
    examine,
    place,
)
from services.audit.intake import Intake
from services.audit.settings import AuditSettings
from shared import outbox
from shared.database import LOST, Connection
from shared.identifiers import uuid7
from shared.runtime import Runtime

LOG: Final = logging.getLogger(__name__)

TAKE_SECONDS: Final = 1.0
EARLY_CHUNK: Final = 500
LONGEST_REREAD_SECONDS: Final = 3600.0

RECORDS: Final = Counter("certwire_audit_records_total", "Audit records kept", ["service"])
DUPLICATES: Final = Counter("certwire_audit_duplicates_total", "Records that came again")
VIOLATIONS: Final = Counter(
    "certwire_audit_violations_total", "Messages that were not believed", ["reason"]
)
WAITING: Final = Gauge(
    "certwire_audit_waiting", "Records that wait for one before them", ["service"]
)
REREADS: Final = Counter("certwire_audit_rereads_total", "Times that the stream was read again")


class Collector:
    """The collector of one replica; `run` is its background work."""

    def __init__(self, runtime: Runtime, settings: AuditSettings) -> None:
        self._runtime = runtime
        self._settings = settings
        self._heads: dict[str, Head] = {}
        self._position = 0
        self._gaps: set[str] = set()
        self._reread_at = float("inf")
        self._reread_after = settings.audit_reread_seconds

    async def run(self) -> None:
        """Collect for as long as the process lives, through losses of Postgres and NATS."""
        while True:
            try:
                await self._hold_lock_and_collect()
            except (*LOST, NatsError, JetStreamError) as error:
                LOG.warning(
                    "the collector starts over", extra={"reason": str(error) or repr(error)}
                )
            await asyncio.sleep(TAKE_SECONDS)

    async def _hold_lock_and_collect(self) -> None:
        connection = await self._runtime.database.dedicated()
        intake = Intake(self._runtime.streams_broker.connection)
        try:
            while True:
                if await store.take_lock(connection):
                    break
                await asyncio.sleep(TAKE_SECONDS)
            self._heads = await store.heads(connection, list(Service))
            self._position = await store.last_position(connection)
            await self._note_gaps(connection)
            await intake.start()
            while True:
                await self._step(connection, intake)
        finally:
            connection.terminate()
            await intake.stop()

    async def _step(self, connection: "asyncpg.Connection[asyncpg.Record]", intake: Intake) -> None:
        messages = await intake.take(TAKE_SECONDS)
        if messages:
            await self._keep(connection, messages)
            await intake.acknowledge(messages)
        else:
            await store.last_position(connection)  # it is alive, so the lock is still ours
        if monotonic() > self._reread_at:
            await self._reread()

    async def _keep(self, connection: Connection, messages: Sequence[Msg]) -> None:
        arrivals = [
            Arrival(message.subject, message.data)
            for message in messages
            if message.subject != AUDIT_CHECKPOINT
        ]
        placement = await self._place(connection, arrivals)
        async with connection.transaction():
            await self._write(connection, placement)
            if placement.early:
                await store.add_early(connection, placement.early)
        self._count(placement)
        if placement.early or self._gaps:
            await self._close_gaps(connection)

    async def _place(self, connection: Connection, arrivals: Sequence[Arrival]) -> Placement:
        looked_at = [examine(arrival) for arrival in arrivals]
        genuine = [each for each in looked_at if isinstance(each, Genuine)]
        again = [
            each.place
            for each in genuine
            if each.record.sequence <= self._heads.get(each.record.service, Head()).sequence
        ]
        placement = place(self._heads, await store.hashes(connection, again), genuine)
        placement.violations += [each for each in looked_at if isinstance(each, Violation)]
        return placement

    async def _write(self, connection: Connection, placement: Placement) -> None:
        if placement.kept:
            await store.keep(connection, placement.kept, self._position)
        for violation in placement.violations:
            if await store.add_violation(connection, violation):
                await outbox.append(connection, [_record_of(violation)])

    def _count(self, placement: Placement) -> None:
        """Remember what is committed."""
        self._heads = placement.heads
        self._position += len(placement.kept)
        DUPLICATES.inc(placement.duplicates)
        for genuine in placement.kept:
            RECORDS.labels(genuine.record.service).inc()
        for violation in placement.violations:
            VIOLATIONS.labels(str(violation.reason)).inc()
            LOG.error(
                "an audit message is not believed and was quarantined",
                extra={
                    "reason": str(violation.reason),
                    "subject": violation.arrival.subject,
                    "claims": f"{violation.service}#{violation.sequence}",
                },
            )
        if placement.violations:
            self._runtime.backlog.nudge()

    async def _close_gaps(self, connection: Connection) -> None:
        """Give the early records their place that can have it now."""
        for service in await store.gaps(connection):
            while True:
                head = self._heads.get(service, Head()).sequence
                arrivals = await store.early(connection, service, head, EARLY_CHUNK)
                placement = await self._place(connection, arrivals)
                done = [placement.heads.get(service, Head()).sequence]
                done += [each.sequence or 0 for each in placement.violations]
                async with connection.transaction():
                    await self._write(connection, placement)
                    await store.forget_early(connection, service, max(done))
                self._count(placement)
                if not placement.kept:
                    break
        await self._note_gaps(connection)

    async def _note_gaps(self, connection: Connection) -> None:
        gaps = await store.gaps(connection)
        for service in self._gaps - gaps.keys():
            WAITING.labels(service).set(0)
        for service, (missing, waiting, _) in gaps.items():
            WAITING.labels(service).set(waiting)
            if service not in self._gaps:
                LOG.warning(
                    "an audit record is missing",
                    extra={"record": f"{service}#{missing}", "waiting": waiting},
                )
        self._gaps = set(gaps)
        if not gaps:
            self._reread_at = float("inf")
            self._reread_after = self._settings.audit_reread_seconds
        elif self._reread_at == float("inf"):
            self._reread_at = monotonic() + self._reread_after

    async def _reread(self) -> None:
        """Have everything delivered again that the stream still has."""
        self._reread_after = min(2 * self._reread_after, LONGEST_REREAD_SECONDS)
        self._reread_at = monotonic() + self._reread_after
        LOG.warning("reading the audit stream again", extra={"missing_of": sorted(self._gaps)})
        jetstream = self._runtime.streams_broker.connection.jetstream()
        await jetstream.reset_consumer(AUDIT_STREAM, AUDIT_CONSUMER, seq=1)
        REREADS.inc()

    async def warnings(self) -> list[str]:
        """Return what an operator has to know."""
        async with self._runtime.database.connection() as connection:
            gaps = await store.gaps(connection)
            quarantined = await store.violations(connection)
        texts = [
            f"audit record {service}#{missing} is missing; {waiting} later ones wait for it"
            f" since {seconds:.0f} s"
            for service, (missing, waiting, seconds) in gaps.items()
        ]
        if quarantined is not None:
            count, latest = quarantined
            texts.append(
                f"{count} audit messages were not believed, the last one on {latest['subject']}"
                f" ({latest['reason']}): see the table audit.violation"
            )
        return texts


def _record_of(violation: Violation) -> outbox.OutboxRow:
    """Return the audit record about a message that is not believed."""
    return outbox.outbox_row(
        Service.AUDIT,
        str(uuid7()),
        system(Service.AUDIT),
        "record_quarantine",
        AuditObject(type="audit_record", id=f"{violation.service}#{violation.sequence}", name=""),
        outcome=Outcome.FAILED,
        detail={"reason": str(violation.reason), "subject": violation.arrival.subject},
    )
