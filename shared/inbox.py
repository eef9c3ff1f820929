"""The inbox: a message's effect happens once, whatever is delivered twice."""

from typing import Final

from shared.database import Connection

KEPT_DAYS: Final = 35
"""Longer than the streams keep a message that could be delivered again."""
PRUNE: Final = "DELETE FROM inbox WHERE created_at < now() - make_interval(days => $1)"


async def seen(connection: Connection, source: str, message_id: str) -> str | None:
    """Return the first answer to a message that took effect before; else make it ours.

    A second delivery at the same time waits here for the first one's transaction.
    """
    inserted = await connection.fetchval(
        "INSERT INTO inbox (source, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
        " RETURNING true",
        source,
        message_id,
    )
    if inserted:
        return None
    reply: str | None = await connection.fetchval(
        "SELECT reply FROM inbox WHERE source = $1 AND message_id = $2", source, message_id
    )
    return reply or ""


async def keep(connection: Connection, source: str, message_id: str, reply: str) -> None:
    """Keep the answer, in the transaction of the effect."""
    await connection.execute(
        "UPDATE inbox SET reply = $3 WHERE source = $1 AND message_id = $2",
        source,
        message_id,
        reply,
    )
