"""The state of the installation."""

from typing import Final

from contracts.agents import AdminAuthMode, Onboarding
from shared.database import Connection

_LOCK: Final = "SELECT initialised_at IS NOT NULL FROM platform FOR UPDATE"
_IS_INITIALISED: Final = "SELECT initialised_at IS NOT NULL FROM platform"
_INITIALISE: Final = "UPDATE platform SET initialised_at = now()"
_ONBOARDING: Final = "SELECT onboarding FROM platform WHERE initialised_at IS NOT NULL"
_COMPLETE: Final = """
UPDATE platform SET onboarding = 'COMPLETED' WHERE onboarding = 'FRESH' RETURNING true
"""
_AUTH_MODE: Final = "SELECT admin_auth_mode FROM platform"
_SET_AUTH_MODE: Final = "UPDATE platform SET admin_auth_mode = $1"
_WARNINGS: Final = """
SELECT onboarding = 'FRESH' AS fresh, (SELECT ceil(extract(epoch FROM not_after - now()) / 86400)
    FROM admin_certificate WHERE state = 'current')::int AS admin_days
FROM platform
"""


async def lock(connection: Connection) -> bool:
    """Let one transaction at a time change who is who; return whether there is an administrator."""
    return bool(await connection.fetchval(_LOCK))


async def is_initialised(connection: Connection) -> bool:
    """Return whether administrator and superuser were made."""
    return bool(await connection.fetchval(_IS_INITIALISED))


async def mark_initialised(connection: Connection) -> None:
    """Note that administrator and superuser were made."""
    await connection.execute(_INITIALISE)


async def onboarding(connection: Connection) -> Onboarding | None:
    """Return how far the platform is set up; None before administrator and superuser exist."""
    value: str | None = await connection.fetchval(_ONBOARDING)
    return Onboarding(value) if value is not None else None


async def complete_onboarding(connection: Connection) -> bool:
    """End the FRESH state; return whether it lasted until now."""
    return bool(await connection.fetchval(_COMPLETE))


async def auth_mode(connection: Connection) -> AdminAuthMode:
    """Return where the administrator's key is."""
    return AdminAuthMode(await connection.fetchval(_AUTH_MODE))


async def set_auth_mode(connection: Connection, mode: AdminAuthMode) -> None:
    """Note where the administrator's key is from now on."""
    await connection.execute(_SET_AUTH_MODE, mode)


async def fresh_and_admin_days(connection: Connection) -> tuple[bool, int | None]:
    """Return whether onboarding is not completed, and the days left to the administrator."""
    row = await connection.fetchrow(_WARNINGS)
    return (row["fresh"], row["admin_days"]) if row is not None else (True, None)
