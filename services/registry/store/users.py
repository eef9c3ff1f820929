"""Users."""

from dataclasses import dataclass
from typing import Final

from contracts.principal import Role
from shared.database import Connection

_INSERT: Final = """
INSERT INTO users (username, email, password_hash, role) VALUES ($1, $2, $3, $4) RETURNING id
"""
_PASSWORD: Final = "SELECT id, password_hash, is_active FROM users WHERE username = $1"  # noqa: S105 - a query


@dataclass(frozen=True, slots=True)
class PasswordOfUser:
    """What a login is decided by."""

    user_id: int
    password_hash: str
    is_active: bool


async def insert(
    connection: Connection, username: str, email: str, password_hash: str, role: Role
) -> int:
    """Add a user and return the id."""
    value: int = await connection.fetchval(_INSERT, username, email, password_hash, role)
    return value


async def find_password(connection: Connection, username: str) -> PasswordOfUser | None:
    """Return how to verify the user's password; None for an unknown user."""
    row = await connection.fetchrow(_PASSWORD, username)
    if row is None:
        return None
    return PasswordOfUser(row["id"], row["password_hash"], row["is_active"])
