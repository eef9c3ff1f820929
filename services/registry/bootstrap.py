"""The first administrator and the first user, made by `certwire init`.

Both are recorded in one transaction, which hands their secrets out before it commits: so they are
never recorded with their secrets lost. A run that was cut off before that left nothing but a
pending claim, and the next run makes both anew.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from contracts.events import UserCreated
from contracts.issuer import SignedBundle
from contracts.principal import Role
from contracts.subjects import Service
from services.registry import admin
from services.registry.domain.permissions import OPERATOR
from services.registry.handlers.users import audit_object, event, existing
from services.registry.service import Registry
from services.registry.store import platform, users
from shared import outbox
from shared.database import Connection

SUPERUSER: Final = "superuser"
SUPERUSER_EMAIL: Final = "superuser@localhost"
"""A placeholder: nothing is ever sent."""
PASSWORD_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class FirstSecrets:
    """What is shown once."""

    admin: SignedBundle
    username: str
    password: str = field(repr=False)


async def create_admin_and_superuser(
    registry: Registry, hand_out: Callable[[FirstSecrets], None]
) -> bool:
    """Make administrator and superuser where there are none; return whether it did.

    `hand_out` stores the secrets, or shows them; whatever it raises undoes everything.
    """
    database = registry.runtime.database
    async with database.connection() as connection:
        if await platform.is_initialised(connection):
            return False
    call = registry.runtime.own_call()
    async with database.transaction() as connection:
        claimed = await admin.claim(connection, call)
    made = await admin.generate(registry, call, OPERATOR, claimed)
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    password_hash = await registry.passwords.hash(password)
    async with database.transaction() as connection:
        if await platform.lock(connection):  # somebody else was quicker
            return False
        await admin.record(registry, connection, claimed.claim_id, made, OPERATOR, call.request_id)
        username, email = await _free_names(connection)
        user_id = await users.insert(connection, username, email, password_hash, Role.SUPERUSER)
        user = await existing(connection, user_id)
        certificate = made.certificate
        await outbox.append(
            connection,
            [
                outbox.outbox_row(
                    Service.REGISTRY,
                    call.request_id,
                    OPERATOR,
                    "admin_create",
                    admin.ADMIN,
                    detail={"fingerprint": certificate.fingerprint},
                ),
                outbox.outbox_row(
                    Service.REGISTRY,
                    call.request_id,
                    OPERATOR,
                    "user_create",
                    audit_object(user),
                    detail={"role": Role.SUPERUSER},
                    event=event(UserCreated, user),
                ),
            ],
        )
        await platform.mark_initialised(connection)
        hand_out(FirstSecrets(made, username, password))
    return True


async def _free_names(connection: Connection) -> tuple[str, str]:
    """Return username and address: another one's where a first user came before us."""
    taken = await users.taken(connection, SUPERUSER, SUPERUSER_EMAIL, None)
    if not (taken.username or taken.email):
        return SUPERUSER, SUPERUSER_EMAIL
    name = f"{SUPERUSER}-{secrets.token_hex(4)}"
    return name, f"{name}@localhost"
