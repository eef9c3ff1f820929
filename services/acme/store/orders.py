"""Orders: who works on which, and what is known of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from contracts.acme import Order, OrderKind, OrderState, PublicCertificate
from contracts.errors import ErrorReply
from contracts.messages import IdempotencyKey
from contracts.principal import Principal
from shared.database import Connection

KEPT_DAYS: Final = 90
"""As long as Let's Encrypt's certificates live: what led to one can be looked at while it does."""

_ACTIVE: Final = "SELECT * FROM acme_order WHERE project_id = $1 AND state = 'pending'"
_INSERT: Final = """
INSERT INTO acme_order (id, project_id, kind, request, waits, domain, names, staging, directory,
    account_id, issuance, sealed_credentials, replaces, renewed_from, actor, request_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (project_id) WHERE state = 'pending' DO NOTHING
RETURNING *
"""
_ANSWER: Final = """
INSERT INTO order_answer (order_id, scope, key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_FORGET_ANSWERS: Final = """
DELETE FROM idempotency USING order_answer AS answer
WHERE answer.order_id = $1 AND (idempotency.scope, idempotency.key) = (answer.scope, answer.key)
"""
_GET: Final = "SELECT * FROM acme_order WHERE id = $1"
_LIST: Final = """
SELECT * FROM acme_order WHERE project_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2
"""
_HELD_BACK: Final = """
SELECT ceil(extract(epoch FROM retry_at - now()))::integer AS seconds, error FROM acme_order
WHERE project_id = $1 AND domain = $2 AND directory = $3 AND retry_at > now()
ORDER BY created_at DESC LIMIT 1
"""
# Those that somebody waits for go first.
CLAIM: Final = """
UPDATE acme_order SET lease = $1, leased_until = now() + make_interval(secs => $2)
WHERE id IN (
    SELECT id FROM acme_order
    WHERE state = 'pending' AND next_attempt_at <= now()
        AND (leased_until IS NULL OR leased_until <= now()) AND directory <> ALL($4)
    ORDER BY waits DESC, next_attempt_at FOR UPDATE SKIP LOCKED LIMIT $3
)
RETURNING *
"""
_EXTEND: Final = """
UPDATE acme_order SET leased_until = now() + make_interval(secs => $2)
WHERE lease = $1 AND id = ANY($3::uuid[]) AND state = 'pending'
RETURNING id
"""
_RELEASE: Final = """
UPDATE acme_order SET lease = NULL, leased_until = NULL WHERE lease = $1 AND state = 'pending'
"""
_HOLD: Final = """
SELECT FROM acme_order WHERE id = $1 AND lease = $2 AND state = 'pending' FOR UPDATE
"""
_SET_KEY: Final = "UPDATE acme_order SET sealed_key = $2, csr = $3 WHERE id = $1"
_SET_URL: Final = """
UPDATE acme_order SET url = $2, expires_at = $3, attempts = 0 WHERE id = $1
"""
_SET_REPLACES: Final = "UPDATE acme_order SET replaces = NULL WHERE id = $1"
_SET_RESULT: Final = "UPDATE acme_order SET result = $2 WHERE id = $1"
_POSTPONE: Final = """
UPDATE acme_order SET attempts = attempts + 1, lease = NULL, leased_until = NULL,
    next_attempt_at = now() + make_interval(secs => $2)
WHERE id = $1
"""
_END: Final = """
UPDATE acme_order SET state = $2, error = $3, result = $4,
    retry_at = now() + make_interval(secs => $5), ended_at = clock_timestamp(),
    lease = NULL, leased_until = NULL, sealed_key = NULL, sealed_credentials = NULL
WHERE id = $1
RETURNING *
"""
_WARN: Final = "UPDATE acme_order SET warning = $2 WHERE id = $1"
_PRUNE_ANSWERS: Final = """
DELETE FROM order_answer WHERE order_id NOT IN (SELECT id FROM acme_order WHERE state = 'pending')
"""
_PRUNE: Final = """
DELETE FROM acme_order WHERE id IN (
    SELECT id FROM acme_order WHERE ended_at < now() - make_interval(days => $1) LIMIT 1000
)
"""


@dataclass(frozen=True, slots=True)
class NewOrder:
    """What an order begins with; `issuance` is JSON without credentials."""

    id: UUID
    project_id: str
    kind: OrderKind
    request: str
    waits: bool
    domain: str
    names: tuple[str, ...]
    staging: bool
    directory: str
    account_id: int
    issuance: str
    sealed_credentials: bytes | None
    replaces: str | None
    renewed_from: datetime | None
    actor: Principal
    request_id: str


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order as the service works on it."""

    id: UUID
    project_id: str
    kind: OrderKind
    state: OrderState
    request: str
    waits: bool
    domain: str
    names: tuple[str, ...]
    staging: bool
    directory: str
    account_id: int
    issuance: str
    sealed_credentials: bytes | None
    sealed_key: bytes | None
    csr: bytes | None
    replaces: str | None
    renewed_from: datetime | None
    url: str | None
    expires_at: datetime | None
    actor: Principal
    request_id: str
    attempts: int
    error: str | None
    result: str | None
    warning: str | None
    created_at: datetime
    ended_at: datetime | None

    def shown(self) -> Order:
        """Return the order as it is shown."""
        return Order(
            id=self.id,
            project_id=self.project_id,
            domain=self.domain,
            kind=self.kind,
            state=self.state,
            staging=self.staging,
            created_at=self.created_at,
            ended_at=self.ended_at,
            error=ErrorReply.model_validate_json(self.error) if self.error else None,
            certificate=(
                PublicCertificate.model_validate_json(self.result) if self.result else None
            ),
            renewed_from=self.renewed_from,
            warning=self.warning,
        )


_COLUMNS: Final = tuple(OrderRow.__slots__)


async def active(connection: Connection, project_id: str) -> OrderRow | None:
    """Return the order of a project that goes on."""
    return _row(await connection.fetchrow(_ACTIVE, project_id))


async def insert(connection: Connection, order: NewOrder) -> OrderRow | None:
    """Begin an order; return None where one of the project goes on."""
    return _row(
        await connection.fetchrow(
            _INSERT,
            order.id,
            order.project_id,
            order.kind,
            order.request,
            order.waits,
            order.domain,
            order.names,
            order.staging,
            order.directory,
            order.account_id,
            order.issuance,
            order.sealed_credentials,
            order.replaces,
            order.renewed_from,
            order.actor.model_dump_json(),
            order.request_id,
        )
    )


async def answer(connection: Connection, order_id: UUID, key: IdempotencyKey) -> None:
    """Remember that a request is answered with an order; the project is locked, as at its end."""
    await connection.execute(_ANSWER, order_id, key.scope, key.key)


async def forget_answers(connection: Connection, order_id: UUID) -> None:
    """Let requests be made again that were answered with an order that failed."""
    await connection.execute(_FORGET_ANSWERS, order_id)


async def get(connection: Connection, order_id: UUID) -> OrderRow | None:
    """Return an order by its id."""
    return _row(await connection.fetchrow(_GET, order_id))


async def last(connection: Connection, project_id: str, limit: int) -> list[OrderRow]:
    """Return a project's orders, the newest first."""
    rows = await connection.fetch(_LIST, project_id, limit)
    return [found for row in rows if (found := _row(row))]


async def held_back(
    connection: Connection, project_id: str, domain: str, directory: str
) -> tuple[int, ErrorReply] | None:
    """Return for how many seconds the CA wants no order for a name, and what it said."""
    row = await connection.fetchrow(_HELD_BACK, project_id, domain, directory)
    if row is None:
        return None
    return row["seconds"], ErrorReply.model_validate_json(row["error"])


async def claim(
    connection: Connection, lease: UUID, seconds: float, limit: int, without: Sequence[str]
) -> list[OrderRow]:
    """Take orders that nobody works on, at other CAs than those."""
    rows = await connection.fetch(CLAIM, lease, seconds, limit, without)
    return [found for row in rows if (found := _row(row))]


async def extend(
    connection: Connection, lease: UUID, seconds: float, ids: Sequence[UUID]
) -> set[UUID]:
    """Keep orders for longer; return those that are still ours."""
    return {row["id"] for row in await connection.fetch(_EXTEND, lease, seconds, ids)}


async def release(connection: Connection, lease: UUID) -> None:
    """Let others have what we worked on."""
    await connection.execute(_RELEASE, lease)


async def hold(connection: Connection, order_id: UUID, lease: UUID) -> bool:
    """Lock an order until the transaction ends; return False where it is not ours any more."""
    return await connection.fetchrow(_HOLD, order_id, lease) is not None


async def set_key(connection: Connection, order_id: UUID, sealed_key: bytes, csr: bytes) -> None:
    """Remember the key that the certificate is for, before anybody hears of it."""
    await connection.execute(_SET_KEY, order_id, sealed_key, csr)


async def set_url(
    connection: Connection, order_id: UUID, url: str | None, expires_at: datetime | None
) -> None:
    """Remember where the CA has the order, or that it has it no longer."""
    await connection.execute(_SET_URL, order_id, url, expires_at)


async def replace_nothing(connection: Connection, order_id: UUID) -> None:
    """Forget which certificate the order takes the place of: the CA knows better."""
    await connection.execute(_SET_REPLACES, order_id)


async def set_result(connection: Connection, order_id: UUID, result: PublicCertificate) -> None:
    """Remember what an order gave: from here on it only has to be delivered."""
    await connection.execute(_SET_RESULT, order_id, result.model_dump_json())


async def postpone(connection: Connection, order_id: UUID, seconds: float) -> None:
    """Give an order up for so long; whoever is free then goes on with it."""
    await connection.execute(_POSTPONE, order_id, seconds)


async def end(
    connection: Connection,
    order_id: UUID,
    *,
    error: ErrorReply | None = None,
    result: PublicCertificate | None = None,
    held_back_seconds: int | None = None,
) -> OrderRow:
    """End an order: with what it gave, or with why it gave nothing. Its secrets are gone."""
    row = _row(
        await connection.fetchrow(
            _END,
            order_id,
            OrderState.FAILED if error else OrderState.VALID,
            error.model_dump_json() if error else None,
            result.model_dump_json() if result else None,
            float(held_back_seconds) if held_back_seconds is not None else None,
        )
    )
    assert row is not None  # noqa: S101 - it is locked
    return row


async def warn(connection: Connection, order_id: UUID, warning: str) -> None:
    """Say what went wrong after the certificate was there."""
    await connection.execute(_WARN, order_id, warning)


async def prune(connection: Connection) -> bool:
    """Forget some orders that ended long ago; return whether there were any."""
    await connection.execute(_PRUNE_ANSWERS)
    return await connection.execute(_PRUNE, KEPT_DAYS) != "DELETE 0"


def _row(row: asyncpg.Record | None) -> OrderRow | None:
    if row is None:
        return None
    values = {name: row[name] for name in _COLUMNS}
    return OrderRow(
        **{
            **values,
            "kind": OrderKind(row["kind"]),
            "state": OrderState(row["state"]),
            "names": tuple(row["names"]),
            "actor": Principal.model_validate(json.loads(row["actor"])),
        }
    )
