"""CRLs: what waits to be listed, and what was made last."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from shared.database import Connection


@dataclass(frozen=True, slots=True)
class Waiting:
    """A revocation that no CRL lists yet; `not_after` is the certificate's."""

    serial_hex: str
    revoked_at: datetime
    reason: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Crl:
    """A row of `crl`; `is_due` says whether its time to be made again has come."""

    ca_id: int
    number: int
    this_update: datetime
    next_update: datetime
    remake_at: datetime | None
    entries: int
    size: int
    head: bytes = field(repr=False)
    tail: bytes = field(repr=False)
    is_due: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """Entries in DER; `ends` are the notAfter of their certificates in Unix seconds."""

    place: int
    entries: bytes
    ends: list[int]


@dataclass(frozen=True, slots=True)
class Totals:
    """The last CRLs of the CAs of one kind, together."""

    kind: str
    crls: int
    entries: int
    highest_number: int
    oldest_seconds: float


_DUE: Final = """
SELECT due.ca_id
FROM (
    SELECT ca_id FROM crl_waiting
    UNION SELECT ca_id FROM crl WHERE remake_at <= clock_timestamp()
) AS due
JOIN ca ON ca.id = due.ca_id
LEFT JOIN crl ON crl.ca_id = due.ca_id
WHERE ca.key_backend <> 'file' AND ca.not_after > clock_timestamp()
    AND (crl.made_at IS NULL OR crl.made_at <= clock_timestamp() - make_interval(secs => $1))
ORDER BY due.ca_id
"""
_WITHOUT: Final = """
SELECT ca.id FROM ca LEFT JOIN crl ON crl.ca_id = ca.id
WHERE crl.ca_id IS NULL AND ca.key_backend <> 'file' AND ca.not_after > clock_timestamp()
ORDER BY ca.id LIMIT 100
"""
_TRY_LOCK: Final = """
SELECT pg_try_advisory_xact_lock(hashtextextended('issuer.crl', $1::bigint))
"""
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('issuer.crl', $1::bigint))"
_LAST: Final = """
SELECT crl.ca_id, number, this_update, next_update, remake_at, crl.entries, size, head, tail,
    coalesce(remake_at <= clock_timestamp(), false) AS is_due,
    place, segment.entries AS segment
FROM crl
LEFT JOIN crl_segment AS segment ON segment.ca_id = crl.ca_id AND segment.crl_number > $2
WHERE crl.ca_id = $1 ORDER BY place
"""
_TAKE: Final = """
DELETE FROM crl_waiting WHERE ca_id = $1 RETURNING serial_hex, revoked_at, reason, not_after
"""
_ENDS: Final = "SELECT ends FROM crl_segment WHERE ca_id = $1 ORDER BY place"
_CLEAR: Final = "DELETE FROM crl_segment WHERE ca_id = $1"
_APPEND: Final = """
INSERT INTO crl_segment (ca_id, place, crl_number, entries, ends) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (ca_id, place) DO UPDATE SET crl_number = EXCLUDED.crl_number,
    entries = crl_segment.entries || EXCLUDED.entries, ends = crl_segment.ends || EXCLUDED.ends
"""
_PUT: Final = """
INSERT INTO crl (ca_id, number, this_update, next_update, remake_at, entries, size, head, tail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (ca_id) DO UPDATE SET number = EXCLUDED.number, this_update = EXCLUDED.this_update,
    next_update = EXCLUDED.next_update, made_at = EXCLUDED.made_at,
    remake_at = EXCLUDED.remake_at, entries = EXCLUDED.entries, size = EXCLUDED.size,
    head = EXCLUDED.head, tail = EXCLUDED.tail
"""
_TOTALS: Final = """
SELECT kind, count(*), sum(entries)::bigint, max(number),
    extract(epoch FROM clock_timestamp() - min(this_update))::float8
FROM crl JOIN ca ON ca.id = crl.ca_id WHERE ca.not_after > clock_timestamp() GROUP BY kind
"""
_OFFLINE: Final = """
SELECT ca.slug, crl.next_update,
    EXISTS (SELECT FROM crl_waiting WHERE crl_waiting.ca_id = ca.id) AS waits
FROM ca LEFT JOIN crl ON crl.ca_id = ca.id
WHERE ca.key_backend = 'file' AND ca.not_after > clock_timestamp() ORDER BY ca.id
"""

_OVERDUE: Final = """
SELECT ca.slug FROM crl JOIN ca ON ca.id = crl.ca_id
WHERE crl.remake_at < clock_timestamp() - interval '1 hour' AND ca.not_after > clock_timestamp()
ORDER BY crl.remake_at LIMIT 5
"""


async def due(connection: Connection, pause_seconds: float) -> list[int]:
    """Return the CAs with something to list, or whose CRL's time has come.

    Those are left out whose CRL was made within the pause, whose key is in a file, or that ended.
    """
    return [row["ca_id"] for row in await connection.fetch(_DUE, pause_seconds)]


async def without(connection: Connection) -> list[int]:
    """Return CAs that have no CRL yet and can have one made."""
    return [row["id"] for row in await connection.fetch(_WITHOUT)]


async def try_lock(connection: Connection, ca_id: int) -> bool:
    """Let nobody else make the CA's CRL until the transaction ends, unless somebody does now."""
    return bool(await connection.fetchval(_TRY_LOCK, ca_id))


async def lock(connection: Connection, ca_id: int) -> None:
    """Let nobody else make the CA's CRL until the transaction ends, once nobody does."""
    await connection.execute(_LOCK, ca_id)


async def last(
    connection: Connection, ca_id: int, known_number: int
) -> tuple[Crl, dict[int, bytes]] | None:
    """Return the CRL that was made last, with the segments written since `known_number`."""
    rows = await connection.fetch(_LAST, ca_id, known_number)
    if not rows:
        return None
    segments = {row["place"]: row["segment"] for row in rows if row["place"] is not None}
    return Crl(*rows[0][: len(Crl.__slots__)]), segments


async def take(connection: Connection, ca_id: int) -> list[Waiting]:
    """Return what waits for the CA's next CRL; it does not wait any more."""
    return [Waiting(*row) for row in await connection.fetch(_TAKE, ca_id)]


async def ends(connection: Connection, ca_id: int) -> list[list[int]]:
    """Return the notAfter of the listed certificates, by segment."""
    return [row["ends"] for row in await connection.fetch(_ENDS, ca_id)]


async def clear(connection: Connection, ca_id: int) -> None:
    """Forget all entries."""
    await connection.execute(_CLEAR, ca_id)


async def append(
    connection: Connection, ca_id: int, crl_number: int, segments: Sequence[Segment]
) -> None:
    """Add entries at the end of segments, which may be new ones."""
    await connection.executemany(
        _APPEND,
        [(ca_id, part.place, crl_number, part.entries, part.ends) for part in segments],
    )


async def put(connection: Connection, crl: Crl) -> None:
    """Let a CRL be the last one."""
    await connection.execute(
        _PUT,
        crl.ca_id,
        crl.number,
        crl.this_update,
        crl.next_update,
        crl.remake_at,
        crl.entries,
        crl.size,
        crl.head,
        crl.tail,
    )


async def totals(connection: Connection) -> list[Totals]:
    """Return figures of the CRLs of CAs that have not ended."""
    return [Totals(*row) for row in await connection.fetch(_TOTALS)]


async def offline(connection: Connection) -> list[tuple[str, datetime | None, bool]]:
    """Return slug, end of the last CRL, and whether revocations wait, of CAs with keys in files."""
    return [tuple(row) for row in await connection.fetch(_OFFLINE)]


async def overdue(connection: Connection) -> list[str]:
    """Return CAs whose CRL was to be made again an hour ago, the first five."""
    return [row["slug"] for row in await connection.fetch(_OVERDUE)]
