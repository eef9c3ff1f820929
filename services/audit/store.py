"""SQL of the audit service; the caller opens the transaction."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import asyncpg
from pydantic import JsonValue

from contracts.audit import AuditRecord
from contracts.audit_log import KeptRecord, ListAuditRecords
from services.audit.domain.verification import Arrival, Genuine, Head, Violation
from shared.database import Connection

INDEXED_CHARACTERS: Final = 200
"""An entry of a B-tree has to stay below 2,704 bytes, whatever a client named an object."""

LISTED_CHARACTERS: Final = 4000
"""Of a longer record, lists leave the detail out: a thousand of them fit into one reply."""

LOCK_CLASS: Final = 0x617564  # "aud"

_TAKE_LOCK: Final = "SELECT pg_try_advisory_lock($1, 0)"
_POSITION: Final = "SELECT coalesce(max(position), 0) FROM record"
_HEADS: Final = """
SELECT wanted.service, head.sequence, head.hash FROM unnest($1::text[]) AS wanted (service),
LATERAL (SELECT sequence, hash FROM record WHERE record.service = wanted.service
    ORDER BY sequence DESC LIMIT 1) AS head
"""
_HASHES: Final = """
SELECT record.service, record.sequence, record.hash FROM record
JOIN unnest($1::text[], $2::bigint[]) AS wanted (service, sequence)
    ON record.service = wanted.service AND record.sequence = wanted.sequence
"""
_KEEP: Final = """
INSERT INTO record (position, service, sequence, hash, record, time, action, actor_kind, actor_id,
    object_type, object_id, organization_id, actor_organization_id, outcome, request_id)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[],
    $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[],
    $13::bigint[], $14::text[], $15::text[])
"""
# Conditions that are not made are NULL, and gone once the statement is planned for its arguments;
# so are the parts that a reader has no use for. What is left is merged in the indexes' order.
LOG: Final = """
SELECT position, organization_id, record FROM (
    (SELECT * FROM record WHERE $1::bigint IS NULL ORDER BY time DESC, position DESC)
    UNION ALL
    (SELECT * FROM record WHERE organization_id = $1 ORDER BY time DESC, position DESC)
    UNION ALL
    (SELECT * FROM record
        WHERE actor_organization_id = $1 AND organization_id IS DISTINCT FROM $1
        ORDER BY time DESC, position DESC)
) AS readable
WHERE ($2::text IS NULL OR action = $2)
    AND ($3::text IS NULL OR actor_kind = 'user' AND actor_id = $3)
    AND ($4::text IS NULL OR object_type = $4)
    AND ($5::text IS NULL OR object_id = $5)
    AND ($6::timestamptz IS NULL OR time >= $6)
    AND ($7::timestamptz IS NULL OR time <= $7)
ORDER BY time DESC, position DESC OFFSET $8 LIMIT $9
"""
_ADD_EARLY: Final = """
INSERT INTO early (service, sequence, subject, payload)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bytea[]) ON CONFLICT DO NOTHING
"""
_EARLY: Final = """
SELECT subject, payload FROM early WHERE service = $1 AND sequence > $2 ORDER BY sequence LIMIT $3
"""
_FORGET_EARLY: Final = "DELETE FROM early WHERE service = $1 AND sequence <= $2"
_GAPS: Final = """
SELECT service, count(*) AS waiting, extract(epoch FROM now() - min(arrived_at))::float8 AS seconds,
    coalesce((SELECT max(sequence) FROM record WHERE record.service = early.service), 0) + 1
        AS missing
FROM early GROUP BY service ORDER BY service
"""
_ADD_VIOLATION: Final = """
INSERT INTO violation (reason, service, sequence, subject, payload) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING id
"""
_VIOLATIONS: Final = """
SELECT count(*) OVER () AS count, reason, subject, sequence FROM violation ORDER BY id DESC LIMIT 1
"""


async def take_lock(connection: Connection) -> bool:
    """Become the one that collects, for as long as the connection lives."""
    return bool(await connection.fetchval(_TAKE_LOCK, LOCK_CLASS))


async def last_position(connection: Connection) -> int:
    """Return the position of the last record."""
    return int(await connection.fetchval(_POSITION))


async def heads(connection: Connection, services: Iterable[str]) -> dict[str, Head]:
    """Return the last record of each service that has one."""
    rows = await connection.fetch(_HEADS, list(services))
    return {row["service"]: Head(row["sequence"], row["hash"]) for row in rows}


async def hashes(
    connection: Connection, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], str]:
    """Return the hashes of the records that are kept at some places."""
    if not places:
        return {}
    services, sequences = zip(*places, strict=True)
    rows = await connection.fetch(_HASHES, services, sequences)
    return {(row["service"], row["sequence"]): row["hash"] for row in rows}


async def keep(connection: Connection, records: Sequence[Genuine], position: int) -> None:
    """Add records at the positions after `position`."""
    rows = [_row(position + number, genuine) for number, genuine in enumerate(records, start=1)]
    await connection.execute(_KEEP, *zip(*rows, strict=True))


def _row(position: int, genuine: Genuine) -> tuple[object, ...]:
    record = genuine.record
    actor, about = record.actor, record.object
    organization_id = about.organization_id or actor.organization_id
    return (
        position,
        record.service,
        record.sequence,
        record.hash,
        genuine.text,
        record.time,
        _indexed(record.action),
        _indexed(actor.kind),
        _indexed(actor.id),
        _indexed(about.type),
        _indexed(about.id),
        organization_id,
        actor.organization_id,
        str(record.outcome),
        _indexed(record.request_id),
    )


def _indexed(text: str) -> str:
    """Return what of a text a column can have: no NUL, and not too much."""
    return text[:INDEXED_CHARACTERS].replace("\x00", "\ufffd")


async def log(
    connection: Connection, asked: ListAuditRecords, organization_id: int | None
) -> tuple[KeptRecord, ...]:
    """Return the records asked for; those of one organisation alone where one is given."""
    rows = await connection.fetch(LOG, *log_arguments(asked, organization_id))
    return tuple(map(_kept, rows))


def log_arguments(asked: ListAuditRecords, organization_id: int | None) -> tuple[object, ...]:
    """Return the arguments of `LOG`."""
    return (
        organization_id,
        _optional(asked.action),
        _optional(asked.user_id),
        _optional(asked.object_type),
        _optional(asked.object_id),
        asked.since,
        asked.until,
        asked.skip,
        asked.limit,
    )


def _optional(value: object | None) -> str | None:
    return None if value is None else _indexed(str(value))


def _kept(row: asyncpg.Record) -> KeptRecord:
    record = AuditRecord.model_validate_json(row["record"])
    about = record.object.model_copy(
        update={"id": _indexed(record.object.id), "name": _indexed(record.object.name)}
    )
    return KeptRecord(
        position=row["position"],
        time=record.time,
        action=record.action,
        actor=record.actor,
        object=about,
        organization_id=row["organization_id"],
        outcome=record.outcome,
        request_id=record.request_id,
        detail=record.detail if len(row["record"]) <= LISTED_CHARACTERS else None,
    )


async def add_early(connection: Connection, records: Sequence[Genuine]) -> None:
    """Put records aside until those before them have come."""
    rows = [
        (*genuine.place, genuine.arrival.subject, genuine.arrival.payload) for genuine in records
    ]
    await connection.execute(_ADD_EARLY, *zip(*rows, strict=True))


async def early(connection: Connection, service: str, after: int, limit: int) -> list[Arrival]:
    """Return records of a service that were put aside, in order."""
    rows = await connection.fetch(_EARLY, service, after, limit)
    return [Arrival(row["subject"], row["payload"]) for row in rows]


async def forget_early(connection: Connection, service: str, up_to: int) -> None:
    """Let go of what was put aside and now has, or cannot have, its place."""
    await connection.execute(_FORGET_EARLY, service, up_to)


async def gaps(connection: Connection) -> Mapping[str, tuple[int, int, float]]:
    """Return by service: which sequence is missing, how many wait for it, and since when."""
    rows = await connection.fetch(_GAPS)
    return {row["service"]: (row["missing"], row["waiting"], row["seconds"]) for row in rows}


async def add_violation(connection: Connection, violation: Violation) -> bool:
    """Quarantine a message; return whether it is new."""
    added = await connection.fetchval(
        _ADD_VIOLATION,
        str(violation.reason),
        violation.service,
        violation.sequence,
        violation.arrival.subject,
        violation.arrival.payload,
    )
    return added is not None


async def violations(connection: Connection) -> tuple[int, dict[str, JsonValue]] | None:
    """Return how many messages are quarantined, and the latest one."""
    row = await connection.fetchrow(_VIOLATIONS)
    if row is None:
        return None
    return row["count"], {name: row[name] for name in ("reason", "subject", "sequence")}
