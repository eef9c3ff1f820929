"""RSA keys that were made ahead."""

from typing import Final

from shared.database import Connection

_COUNTS: Final = "SELECT algorithm, count(*) AS keys FROM key_pool GROUP BY algorithm"
_NEXT_ID: Final = "SELECT nextval(pg_get_serial_sequence('key_pool', 'id'))"
_ADD: Final = "INSERT INTO key_pool (id, algorithm, sealed_key) VALUES ($1, $2, $3)"
_TAKE: Final = """
DELETE FROM key_pool WHERE id = (
    SELECT id FROM key_pool WHERE algorithm = $1 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id, sealed_key
"""


async def counts(connection: Connection) -> dict[str, int]:
    """Return how many keys of each algorithm there are."""
    return {row["algorithm"]: row["keys"] for row in await connection.fetch(_COUNTS)}


async def next_id(connection: Connection) -> int:
    """Return the id of a key that is about to be added: it is sealed under it."""
    return int(await connection.fetchval(_NEXT_ID))


async def add(connection: Connection, key_id: int, algorithm: str, sealed_key: bytes) -> None:
    """Add a key."""
    await connection.execute(_ADD, key_id, algorithm, sealed_key)


async def take(connection: Connection, algorithm: str) -> tuple[int, bytes] | None:
    """Take the oldest key that nobody else is taking, and its id; None without any."""
    row = await connection.fetchrow(_TAKE, algorithm)
    return (row["id"], row["sealed_key"]) if row else None
