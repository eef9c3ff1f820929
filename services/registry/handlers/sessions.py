"""Logins and the sessions that they make."""

import secrets

from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.principal import ANONYMOUS
from contracts.registry import LogIn, TokenPair
from services.registry.domain.permissions import authorise
from services.registry.domain.sessions import TOKEN_BYTES, counted_address, counted_username
from services.registry.service import Registry
from services.registry.store import sessions, users
from shared.identifiers import uuid7
from shared.secrets import token_hash


async def log_in(command: LogIn, registry: Registry) -> TokenPair:
    """Exchange a password for a pair of tokens.

    1. The limits, decided and counted by the database.
    2. The password, an unknown user's too: it takes as long.
    3. The session, unless the user was changed since.
    """
    authorise(ANONYMOUS, command)
    await _admit(command, registry)  # 1
    async with registry.runtime.database.connection() as connection:
        found = await users.find_password(connection, command.username)
    right = await registry.passwords.verify(  # 2
        found.password_hash if found else None, command.password, command.call.deadline
    )
    if not right or found is None:
        raise CertwireError(ErrorCode.LOGIN_FAILED)
    access, refresh = secrets.token_urlsafe(TOKEN_BYTES), secrets.token_urlsafe(TOKEN_BYTES)
    async with registry.runtime.unit_of_work(command) as work:
        session = await sessions.insert(  # 3
            work.connection,
            token_hash(access),
            token_hash(refresh),
            uuid7(),
            found.user_id,
            found.password_hash,
        )
        if session is None:
            raise CertwireError(ErrorCode.LOGIN_FAILED)
        user, expires_at = session
        work.record(
            user,
            "login_success",
            AuditObject(
                type="user", id=user.id, name=user.name, organization_id=user.organization_id
            ),
        )
        pair = TokenPair(access_token=access, refresh_token=refresh, access_expires_at=expires_at)
        return await work.answer(pair, secret=True)


async def _admit(command: LogIn, registry: Registry) -> None:
    """Count the attempt. Raises `RATE_LIMITED`."""
    address = counted_address(command.call.source_address)
    username = counted_username(command.username)
    async with registry.runtime.database.statement() as connection:
        if await sessions.admit_login(connection, address, username, registry.limits):
            return
    async with registry.runtime.database.connection() as connection:
        wait = await sessions.login_wait_seconds(connection, address, username, registry.limits)
    raise CertwireError(ErrorCode.RATE_LIMITED, retry_after_seconds=wait)
