"""Users."""

from dataclasses import dataclass
from typing import Final

import asyncpg

from contracts.principal import Role
from contracts.users import User, UserChanges
from services.registry.domain.sessions import Flags
from shared.database import Connection

_INSERT: Final = """
INSERT INTO users (username, email, password_hash, role, is_active, organization_id, can_create_ca,
    can_create_cert, can_revoke_cert, can_export_private_key, can_delete_ca)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
RETURNING id
"""
_PASSWORD: Final = "SELECT id, password_hash, is_active FROM users WHERE username = $1"  # noqa: S105 - a query
_ANY: Final = "SELECT EXISTS (SELECT FROM users)"
_TAKEN: Final = """
SELECT coalesce(bool_or(lower(username) = lower($1)), false) AS username,
    coalesce(bool_or(lower(email) = lower($2)), false) AS email
FROM users
WHERE (lower(username) = lower($1) OR lower(email) = lower($2)) AND id IS DISTINCT FROM $3::bigint
"""
_GET: Final = "SELECT * FROM shown_user WHERE id = $1"
PAGE: Final = "SELECT * FROM shown_user ORDER BY id OFFSET $1 LIMIT $2"
MEMBERS: Final = """
SELECT * FROM shown_user WHERE organization_id = $1 ORDER BY id OFFSET $2 LIMIT $3
"""
_HAS_MEMBERS: Final = "SELECT EXISTS (SELECT FROM users WHERE organization_id = $1)"
_CHANGE: Final = """
UPDATE users SET email = coalesce($2, email), password_hash = coalesce($3, password_hash),
    role = coalesce($4, role), is_active = coalesce($5, is_active),
    organization_id = coalesce($6, organization_id),
    can_create_ca = coalesce($7, can_create_ca), can_create_cert = coalesce($8, can_create_cert),
    can_revoke_cert = coalesce($9, can_revoke_cert),
    can_export_private_key = coalesce($10, can_export_private_key),
    can_delete_ca = coalesce($11, can_delete_ca), updated_at = clock_timestamp()
WHERE id = $1
"""
_SET_ORGANIZATION: Final = """
UPDATE users SET organization_id = $2, updated_at = clock_timestamp() WHERE id = $1
"""
_DELETE: Final = "DELETE FROM users WHERE id = $1"


@dataclass(frozen=True, slots=True)
class PasswordOfUser:
    """What a login is decided by."""

    user_id: int
    password_hash: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """What somebody else is called, in whatever case."""

    username: bool
    email: bool


async def insert(
    connection: Connection,
    username: str,
    email: str,
    password_hash: str,
    role: Role,
    organization_id: int | None = None,
    flags: Flags = Flags(),  # noqa: B008 - it is immutable
    *,
    is_active: bool = True,
) -> int:
    """Add a user and return the id."""
    value: int = await connection.fetchval(
        _INSERT,
        username,
        email,
        password_hash,
        role,
        is_active,
        organization_id,
        flags.create_ca,
        flags.create_cert,
        flags.revoke_cert,
        flags.export_private_key,
        flags.delete_ca,
    )
    return value


async def find_password(connection: Connection, username: str) -> PasswordOfUser | None:
    """Return how to verify the user's password; None for an unknown user."""
    row = await connection.fetchrow(_PASSWORD, username)
    if row is None:
        return None
    return PasswordOfUser(row["id"], row["password_hash"], row["is_active"])


async def are_there_any(connection: Connection) -> bool:
    """Return whether there is a user at all."""
    return bool(await connection.fetchval(_ANY))


async def taken(
    connection: Connection, username: str | None, email: str | None, by_others_than: int | None
) -> Taken:
    """Return whether another user has the name or the address."""
    row = await connection.fetchrow(_TAKEN, username, email, by_others_than)
    assert row is not None  # noqa: S101 - an aggregate
    return Taken(row["username"], row["email"])


async def find(connection: Connection, user_id: int) -> User | None:
    """Return a user, None where there is none of the id."""
    row = await connection.fetchrow(_GET, user_id)
    return _user(row) if row is not None else None


async def page(connection: Connection, skip: int, limit: int) -> list[User]:
    """Return users in the order of their ids."""
    return [_user(row) for row in await connection.fetch(PAGE, skip, limit)]


async def members(
    connection: Connection, organization_id: int, skip: int, limit: int
) -> list[User]:
    """Return an organisation's users in the order of their ids."""
    rows = await connection.fetch(MEMBERS, organization_id, skip, limit)
    return [_user(row) for row in rows]


async def has_members(connection: Connection, organization_id: int) -> bool:
    """Return whether a user belongs to the organisation."""
    return bool(await connection.fetchval(_HAS_MEMBERS, organization_id))


async def change(
    connection: Connection, user_id: int, changes: UserChanges, password_hash: str | None
) -> None:
    """Change what is not None. Whoever refreshes a session of the user waits for it."""
    await connection.execute(
        _CHANGE,
        user_id,
        changes.email,
        password_hash,
        changes.role,
        changes.is_active,
        changes.organization_id,
        changes.can_create_ca,
        changes.can_create_cert,
        changes.can_revoke_cert,
        changes.can_export_private_key,
        changes.can_delete_ca,
    )


async def set_organization(
    connection: Connection, user_id: int, organization_id: int | None
) -> None:
    """Let the user belong to an organisation, or to none."""
    await connection.execute(_SET_ORGANIZATION, user_id, organization_id)


async def delete(connection: Connection, user_id: int) -> None:
    """Forget a user and all of their sessions."""
    await connection.execute(_DELETE, user_id)


def _user(row: asyncpg.Record) -> User:
    return User.model_validate(dict(row))
