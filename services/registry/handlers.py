"""Commands of the registry."""

import secrets
from typing import Final

from contracts.audit import Actor, AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.events import AdminReset
from contracts.messages import Done
from contracts.principal import ANONYMOUS, CredentialKind
from contracts.registry import (
    AdminBundle,
    CompleteOnboarding,
    LogIn,
    ResetAdmin,
    ResolveCredentials,
    ResolvedCredentials,
    TokenPair,
)
from services.registry import admin
from services.registry.domain.permissions import OPERATOR, authorise
from services.registry.domain.sessions import TOKEN_BYTES, counted_address, counted_username
from services.registry.service import Registry
from services.registry.store import credentials, platform, sessions, users
from services.registry.store.credentials import Resolved
from shared import idempotency
from shared.identifiers import uuid7
from shared.secrets import token_hash

PLATFORM: Final = AuditObject(type="platform", id="onboarding", name="onboarding")


async def resolve_credentials(
    command: ResolveCredentials, registry: Registry
) -> ResolvedCredentials:
    """Say who the credentials stand for at this moment, and record those that are refused."""
    questions = command.questions
    async with registry.runtime.database.connection() as connection:
        answers = await credentials.resolve(connection, [q.credential for q in questions])
    for question, answer in zip(questions, answers, strict=True):
        if not answer.accepted:
            await _record_refusal(question, answer, registry)
    return ResolvedCredentials(
        principals=tuple(answer.principal if answer.accepted else None for answer in answers)
    )


async def _record_refusal(
    question: ResolveCredentials.Question, answer: Resolved, registry: Registry
) -> None:
    credential = question.credential
    # A token's hash stays out of the log: what was presented may be a weak password.
    shown = credential.sha256 if credential.kind is CredentialKind.CERTIFICATE else None
    await registry.runtime.refuse(
        question.source_address or "",
        answer.principal or Actor(kind="unknown", id="", name="", fingerprint=shown),
        "credential_resolve",
        AuditObject(type="credential", id=shown or "", name=credential.kind),
        ErrorCode.CREDENTIAL_REFUSED,
        question.request_id,
    )


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


async def reset_admin(command: ResetAdmin, registry: Registry) -> AdminBundle:
    """Make a new PKCS#12 administrator, and revoke the one before; see `admin`."""
    authorise(OPERATOR, command)
    async with registry.runtime.database.connection() as connection:
        if not await platform.is_initialised(connection):
            raise CertwireError(ErrorCode.NOT_INITIALISED, "the platform is not initialised")
        if command.call.idempotency is not None:  # before anything is made
            await idempotency.refuse_or_answer(connection, command.call.idempotency)
    made = await admin.generate(registry, command.call, OPERATOR)
    certificate = made.bundle.certificate
    async with registry.runtime.unit_of_work(command) as work:
        await platform.lock(work.connection)
        superseded = await admin.record(
            registry, work.connection, made, OPERATOR, command.call.request_id
        )
        work.record(
            OPERATOR,
            "admin_reset",
            admin.ADMIN,
            event=AdminReset(
                fingerprint=certificate.fingerprint, serial_hex=certificate.serial_hex
            ),
            detail={"fingerprint": certificate.fingerprint, "superseded": superseded},
        )
        reply = await work.answer(admin.shown_once(made.bundle), secret=True)
    registry.to_tell.set()
    return reply


async def complete_onboarding(command: CompleteOnboarding, registry: Registry) -> Done:
    """End the FRESH state; nothing happens where it has ended."""
    authorise(OPERATOR, command)
    async with registry.runtime.unit_of_work(command) as work:
        if not await platform.is_initialised(work.connection):
            raise CertwireError(ErrorCode.NOT_INITIALISED, "the platform is not initialised")
        if await platform.complete_onboarding(work.connection):
            work.record(OPERATOR, "onboarding_complete", PLATFORM)
        return await work.answer(Done())
