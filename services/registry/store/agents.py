"""Agents: many rows a label, at most one of them active."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from contracts.agents import Agent, EnrollmentMethod
from shared.database import Connection

_INSERT: Final = """
INSERT INTO agent (label, capabilities, allowed_sites, enrollment_method, fingerprint)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (label) WHERE revoked_at IS NULL DO NOTHING
RETURNING id
"""
_IS_ACTIVE: Final = "SELECT true FROM agent WHERE label = $1 AND revoked_at IS NULL"
_LOCK_LABEL: Final = "SELECT id FROM agent WHERE label = $1 AND revoked_at IS NULL FOR UPDATE"
_LOCK: Final = "SELECT true FROM agent WHERE id = $1 FOR UPDATE"
_GET: Final = """
SELECT id, label, capabilities, allowed_sites, enrollment_method, fingerprint, serial_hex,
    created_at, expires_at, revoked
FROM shown_agent WHERE id = $1
"""
PAGE: Final = """
SELECT id, label, capabilities, allowed_sites, enrollment_method, fingerprint, serial_hex,
    created_at, expires_at, revoked
FROM shown_agent WHERE id > $1 ORDER BY id LIMIT $2
"""
_SET_CAPABILITIES: Final = "UPDATE agent SET capabilities = $2 WHERE id = $1"
_SET_SITES: Final = "UPDATE agent SET allowed_sites = $2 WHERE id = $1"
_RENEW: Final = """
UPDATE agent SET fingerprint = $2, enrollment_method = 'hardware-bound' WHERE id = $1
"""
_REVOKE: Final = "UPDATE agent SET revoked_at = clock_timestamp() WHERE id = $1"


@dataclass(frozen=True, slots=True)
class KnownAgent:
    """An agent with its place in the list, which is its id, and its newest certificate."""

    id: int
    fingerprint: str
    shown: Agent


async def insert(
    connection: Connection,
    label: str,
    capabilities: Sequence[str],
    allowed_sites: Sequence[str],
    method: EnrollmentMethod,
    fingerprint: str,
) -> int | None:
    """Add an active agent and return its id; None where the label has one."""
    value: int | None = await connection.fetchval(
        _INSERT, label, capabilities, allowed_sites, method, fingerprint
    )
    return value


async def is_active(connection: Connection, label: str) -> bool:
    """Return whether the label is taken."""
    return bool(await connection.fetchval(_IS_ACTIVE, label))


async def lock(connection: Connection, label: str) -> KnownAgent | None:
    """Return the label's active agent, ours until the transaction ends.

    Two queries: the second sees what was committed while the first waited.
    """
    agent_id: int | None = await connection.fetchval(_LOCK_LABEL, label)
    return await get(connection, agent_id) if agent_id is not None else None


async def lock_by_id(connection: Connection, agent_id: int) -> None:
    """Let nobody else change the agent until the transaction ends."""
    await connection.execute(_LOCK, agent_id)


async def get(connection: Connection, agent_id: int) -> KnownAgent:
    """Return an agent that exists."""
    row = await connection.fetchrow(_GET, agent_id)
    assert row is not None  # noqa: S101 - agents are never deleted
    return _known(row)


async def page(connection: Connection, limit: int, after: int) -> list[KnownAgent]:
    """Return agents in the order of their creation, revoked ones included."""
    return [_known(row) for row in await connection.fetch(PAGE, after, limit)]


async def set_capabilities(
    connection: Connection, agent_id: int, capabilities: Sequence[str]
) -> None:
    """Replace what the agent may do."""
    await connection.execute(_SET_CAPABILITIES, agent_id, capabilities)


async def set_allowed_sites(connection: Connection, agent_id: int, sites: Sequence[str]) -> None:
    """Replace the agent's sites."""
    await connection.execute(_SET_SITES, agent_id, sites)


async def renew(connection: Connection, agent_id: int, fingerprint: str) -> None:
    """Give the agent another newest certificate, for a key of its own."""
    await connection.execute(_RENEW, agent_id, fingerprint)


async def revoke(connection: Connection, agent_id: int) -> None:
    """Make the agent nobody, and its label free."""
    await connection.execute(_REVOKE, agent_id)


def _known(row: asyncpg.Record) -> KnownAgent:
    fields = dict(row)
    return KnownAgent(fields.pop("id"), fields.pop("fingerprint"), Agent.model_validate(fields))
