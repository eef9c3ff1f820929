"""Logins, the sessions that they make, and how those go on and end.

Whoever makes, refreshes or ends sessions of a user locks the user's row. Whoever ends one is nobody
afterwards: so the answer to a repeat with its Idempotency-Key is given before who asks is judged.
"""

import secrets
from typing import Final

from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Done
from contracts.principal import ANONYMOUS, Principal
from contracts.registry import LogIn, TokenPair
from contracts.users import EndAllSessions, EndSession, RefreshSession
from services.registry.domain import users as rules
from services.registry.domain.permissions import authorise
from services.registry.domain.sessions import (
    TOKEN_BYTES,
    RefreshState,
    counted_address,
    counted_username,
)
from services.registry.domain.users import Standing
from services.registry.identity import admit
from services.registry.service import Registry
from services.registry.store import sessions, users
from shared import outbox
from shared.identifiers import uuid7
from shared.secrets import token_hash
from shared.unit_of_work import UnitOfWork

REFUSED_BECAUSE: Final = {
    RefreshState.SPENT: ErrorCode.TOKEN_USED,
    RefreshState.ENDED: ErrorCode.TOKEN_UNKNOWN,
    RefreshState.EXPIRED: ErrorCode.TOKEN_EXPIRED,
}


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
        work.record(user, "login_success", audit_object(user))
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


def audit_object(user: Principal) -> AuditObject:
    """Return a user as the records of their sessions name them."""
    return AuditObject(
        type="user", id=user.id, name=user.name, organization_id=user.organization_id
    )


async def refresh_session(command: RefreshSession, registry: Registry) -> TokenPair:
    """Exchange a refresh token for the next pair of its family.

    1. The user's row is locked: of two refreshes with one token the second finds it spent.
    2. The token is spent and the next pair made, if it and the user still count.
    3. One that was spent before ends its family: thief and owner can't be told apart, so both
       have to log in. A client whose answer was lost is no exception: it repeats the request under
       its Idempotency-Key, and is told that the first took effect.
    """
    authorise(ANONYMOUS, command)
    try:
        return await _next_pair(command, registry)
    except CertwireError as error:
        if error.code is ErrorCode.TOKEN_USED:
            await _end_family_of_spent(command, registry)  # 3
        raise


async def _next_pair(command: RefreshSession, registry: Registry) -> TokenPair:
    spent = command.refresh_sha256
    access, refresh = secrets.token_urlsafe(TOKEN_BYTES), secrets.token_urlsafe(TOKEN_BYTES)
    async with registry.runtime.unit_of_work(command) as work:
        user = await sessions.lock_holder(work.connection, spent)  # 1
        if user is None:
            raise CertwireError(ErrorCode.TOKEN_UNKNOWN)
        expires_at = await sessions.spend(  # 2
            work.connection, spent, token_hash(access), token_hash(refresh)
        )
        if expires_at is None:
            state = await sessions.refresh_state(work.connection, spent)
            raise CertwireError(REFUSED_BECAUSE[state], actor=user)
        work.record(user, "session_refresh", audit_object(user))
        pair = TokenPair(access_token=access, refresh_token=refresh, access_expires_at=expires_at)
        return await work.answer(pair, secret=True)


async def _end_family_of_spent(command: RefreshSession, registry: Registry) -> None:
    runtime = registry.runtime
    async with runtime.database.transaction() as connection:
        user = await sessions.lock_holder(connection, command.refresh_sha256)
        if user is None:
            return
        ended = await sessions.end_families(connection, int(user.id), None, command.refresh_sha256)
        if ended:
            row = outbox.outbox_row(
                runtime.service,
                command.call.request_id,
                runtime.principal,
                "session_revoke",
                audit_object(user),
                detail={
                    "sessions": ended,
                    "reason": "a spent refresh token was presented",
                    "address": command.call.source_address,
                },
            )
            await outbox.append(connection, [row])
    runtime.backlog.nudge()


async def end_session(command: EndSession, registry: Registry) -> Done:
    """End the session of the access token, and with it all of its family."""
    async with registry.runtime.unit_of_work(command) as work:
        user = await _oneself(command, registry, work)
        if command.refresh_sha256 is not None:
            holder = await sessions.holder(work.connection, command.refresh_sha256)
            if holder is not None and str(holder) != user.id:
                raise rules.forbidden(user, "Refresh token does not belong to current user")
        ended = await sessions.end_families(
            work.connection, int(user.id), command.credential.sha256, command.refresh_sha256
        )
        work.record(user, "session_end", audit_object(user), detail={"sessions": ended})
        return await work.answer(Done())


async def end_all_sessions(command: EndAllSessions, registry: Registry) -> Done:
    """End all sessions of whoever asks."""
    async with registry.runtime.unit_of_work(command) as work:
        user = await _oneself(command, registry, work)
        ended = await sessions.end_all(work.connection, int(user.id))
        work.record(user, "session_end_all", audit_object(user), detail={"sessions": ended})
        return await work.answer(Done())


async def _oneself(
    command: EndSession | EndAllSessions, registry: Registry, work: UnitOfWork
) -> Principal:
    """Return who asks, their sessions locked."""
    user = await admit(registry, work.connection, command)
    rules.authorise(user, command, Standing.ONESELF)
    await sessions.lock_user(work.connection, int(user.id))
    return await admit(registry, work.connection, command)  # somebody may have ended it meanwhile
