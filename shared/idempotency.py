"""`Idempotency-Key`: the first answer is kept for 24 hours and returned to every repeat."""

import asyncio
from typing import Final

import asyncpg

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import IdempotencyKey, Message
from shared.database import Connection

KEPT_HOURS: Final = 24
ANSWER_SECONDS: Final = 0.5
"""What a repeat that waited in vain keeps of its time, so that its caller hears of it."""
_CLAIM: Final = """
INSERT INTO idempotency (scope, key, request) VALUES ($1, $2, $3)
ON CONFLICT (scope, key) DO UPDATE
    SET request = EXCLUDED.request, reply = NULL, created_at = now()
    WHERE idempotency.created_at < now() - make_interval(hours => $4)
RETURNING true
"""
_FIND: Final = "SELECT request, reply FROM idempotency WHERE scope = $1 AND key = $2"
_KEEP: Final = "UPDATE idempotency SET reply = $3 WHERE scope = $1 AND key = $2"
PRUNE: Final = "DELETE FROM idempotency WHERE created_at < now() - make_interval(hours => $1)"


class AnsweredBefore(Exception):  # noqa: N818 - an outcome, not an error
    """The request took effect earlier; `reply` is the JSON of what was answered then."""

    def __init__(self, reply: str) -> None:
        super().__init__("answered before")
        self.reply: Final = reply


async def claim(connection: Connection, key: IdempotencyKey, time_left_seconds: float) -> None:
    """Take the key for the transaction on `connection`, waiting for one that has it.

    Raises `AnsweredBefore` for a repeat, `IDEMPOTENCY_KEY_REUSED` for another request under the
    same key, `IDEMPOTENCY_SECRET_SHOWN` where the answer held a secret, and
    `IDEMPOTENCY_IN_PROGRESS` when the first is not done while there is time left.
    """
    try:
        async with asyncio.timeout(max(time_left_seconds - ANSWER_SECONDS, 0.05)):
            ours = await connection.fetchval(_CLAIM, key.scope, key.key, key.request, KEPT_HOURS)
    except (TimeoutError, asyncpg.LockNotAvailableError):
        raise CertwireError(ErrorCode.IDEMPOTENCY_IN_PROGRESS) from None
    if not ours:
        await refuse_or_answer(connection, key)


async def refuse_or_answer(connection: Connection, key: IdempotencyKey) -> None:
    """Raise what a repeat of the request gets; return where the key is unknown."""
    row = await connection.fetchrow(_FIND, key.scope, key.key)
    if row is None:
        return
    if row["request"] != key.request:
        raise CertwireError(ErrorCode.IDEMPOTENCY_KEY_REUSED)
    if row["reply"] is None:
        raise CertwireError(ErrorCode.IDEMPOTENCY_SECRET_SHOWN)
    raise AnsweredBefore(row["reply"])


async def keep(connection: Connection, key: IdempotencyKey, reply: Message) -> None:
    """Keep the answer, in the transaction of its effect."""
    await connection.execute(_KEEP, key.scope, key.key, reply.model_dump_json())
