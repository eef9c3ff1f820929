"""TXT records at DNS providers: none is added before it stands here, and it stands until gone."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.database import Connection

_NEW_ID: Final = "SELECT nextval(pg_get_serial_sequence('dns_record', 'id'))"
_INSERT: Final = """
INSERT INTO dns_record (id, order_id, provider, sealed_credentials, name, value)
OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (order_id, name, value) DO NOTHING
"""
_END: Final = """
UPDATE dns_record SET remove_at = now() WHERE order_id = $1 AND remove_at IS NULL
"""
# Whoever takes them has some time; then another replica does.
CLAIM: Final = """
UPDATE dns_record SET remove_at = now() + make_interval(secs => $1), attempts = attempts + 1
WHERE id IN (
    SELECT id FROM dns_record WHERE remove_at <= now()
    ORDER BY remove_at FOR UPDATE SKIP LOCKED LIMIT $2
)
RETURNING id, order_id, provider, sealed_credentials, name, value, attempts
"""
_IS_WANTED: Final = """
SELECT EXISTS (
    SELECT FROM dns_record
    WHERE provider = $1 AND name = $2 AND value = $3 AND remove_at IS NULL
)
"""
_FORGET: Final = "DELETE FROM dns_record WHERE id = $1"
_POSTPONE: Final = """
UPDATE dns_record SET remove_at = now() + make_interval(secs => $2) WHERE id = $1
"""


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A TXT record that is to be removed, and how often that was tried, this time included."""

    id: int
    order_id: UUID
    provider: str
    sealed_credentials: bytes
    name: str
    value: str
    attempts: int


async def new_id(connection: Connection) -> int:
    """Return the id of the record that is inserted next; credentials are sealed for it."""
    number: int = await connection.fetchval(_NEW_ID)
    return number


async def insert(
    connection: Connection,
    record_id: int,
    order_id: UUID,
    provider: str,
    sealed_credentials: bytes,
    name: str,
    value: str,
) -> None:
    """Announce a record; one that was announced before is fine."""
    await connection.execute(
        _INSERT, record_id, order_id, provider, sealed_credentials, name, value
    )


async def end(connection: Connection, order_id: UUID) -> None:
    """Have the records of an order removed."""
    await connection.execute(_END, order_id)


async def claim(connection: Connection, seconds: float, limit: int) -> list[DnsRecord]:
    """Take records that are to be removed."""
    return [DnsRecord(*row) for row in await connection.fetch(CLAIM, seconds, limit)]


async def is_wanted(connection: Connection, record: DnsRecord) -> bool:
    """Return whether an order in work needs the same record there: CAs repeat what is pending."""
    asked = record.provider, record.name, record.value
    wanted: bool = await connection.fetchval(_IS_WANTED, *asked)
    return wanted


async def forget(connection: Connection, record_id: int) -> None:
    """Forget a record that is gone."""
    await connection.execute(_FORGET, record_id)


async def postpone(connection: Connection, record_id: int, seconds: float) -> None:
    """Try again later."""
    await connection.execute(_POSTPONE, record_id, seconds)
