"""Commands: logins, credentials, the administrator's reset, onboarding."""

import asyncio
import json

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import IdempotencyKey
from contracts.principal import Credential, CredentialKind, PrincipalKind, Role
from contracts.registry import CompleteOnboarding, LogIn, ResolveCredentials
from services.registry.handlers.administrator import reset_admin
from services.registry.handlers.credentials import resolve_credentials
from services.registry.handlers.onboarding import complete_onboarding
from services.registry.handlers.sessions import log_in
from services.registry.passwords import Passwords
from services.registry.service import Registry
from shared.secrets import token_hash
from tests.support.registry import StandInIssuer, Tables, a_registry, initialised, reset, who
from tests.support.running import call
from tests.support.servers import Place, PostgresServer

ACTIONS = "SELECT entry::json->>'action' FROM registry.outbox ORDER BY position"
STATES = "SELECT state FROM registry.admin_certificate ORDER BY position"


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


def login(username: str, password: str, address: str = "192.0.2.1", **others: object) -> LogIn:
    circumstances = call().model_copy(update={"source_address": address, **others})
    return LogIn(call=circumstances, username=username, password=password)


async def outcome(command: LogIn, registry: Registry) -> ErrorCode | None:
    try:
        await log_in(command, registry)
    except CertwireError as error:
        return error.code
    return None


async def resolved(registry: Registry, token: str) -> object:
    credential = Credential(kind=CredentialKind.BEARER, sha256=token_hash(token))
    question = ResolveCredentials.Question(credential=credential, request_id="r")
    reply = await resolve_credentials(
        ResolveCredentials(call=call(), questions=(question,)), registry
    )
    return reply.principals[0]


async def test_a_login_gives_a_token_of_its_user_and_is_recorded(
    place: Place, tables: Tables
) -> None:
    async with a_registry(place) as registry:
        first = await initialised(registry)
        pair = await log_in(login(first.username, first.password), registry)
        principal = await resolved(registry, pair.access_token)
    assert principal.role is Role.SUPERUSER  # type: ignore[attr-defined]  # a principal
    assert principal.name == first.username  # type: ignore[attr-defined]  # a principal
    entries = [
        json.loads(entry) for entry in await tables.values("SELECT entry FROM registry.outbox")
    ]
    assert entries[-1]["action"] == "login_success"
    stored = await tables.values("SELECT row_to_json(session)::text FROM registry.session")
    assert pair.access_token not in stored[0]
    assert pair.refresh_token not in stored[0]


async def test_the_same_login_twice_makes_two_sessions_but_one_under_an_idempotency_key(
    place: Place, tables: Tables
) -> None:
    async with a_registry(place) as registry:
        first = await initialised(registry)
        command = login(first.username, first.password)
        await log_in(command, registry)
        await log_in(command, registry)
        assert await tables.values("SELECT count(*) FROM registry.session") == [2]
        key = IdempotencyKey(scope="0" * 64, key="k", request="1" * 64)
        keyed = login(first.username, first.password, idempotency=key)
        assert await outcome(keyed, registry) is None
        assert await outcome(keyed, registry) is ErrorCode.IDEMPOTENCY_SECRET_SHOWN
    assert await tables.values("SELECT count(*) FROM registry.session") == [3]


async def test_of_50_parallel_logins_five_are_tried(place: Place) -> None:
    async with a_registry(place) as registry:
        first = await initialised(registry)
        outcomes = await asyncio.gather(
            *(outcome(login(first.username, "wrong"), registry) for _ in range(50))
        )
        assert outcomes.count(ErrorCode.LOGIN_FAILED) == 5
        assert outcomes.count(ErrorCode.RATE_LIMITED) == 45
        assert await outcome(login(first.username, first.password), registry) is (
            ErrorCode.RATE_LIMITED
        )
        elsewhere = login(first.username, first.password, "192.0.2.2")
        assert await outcome(elsewhere, registry) is None


async def test_of_50_parallel_logins_of_as_many_names_twenty_are_tried(place: Place) -> None:
    async with a_registry(place) as registry:
        await initialised(registry)
        outcomes = await asyncio.gather(
            *(outcome(login(f"user-{n}", "wrong"), registry) for n in range(50))
        )
    assert outcomes.count(ErrorCode.LOGIN_FAILED) == 20
    assert outcomes.count(ErrorCode.RATE_LIMITED) == 30


async def test_a_limit_ends_with_its_minute_and_says_when(place: Place, tables: Tables) -> None:
    async with a_registry(place, registry_logins_per_minute=2) as registry:
        await initialised(registry)
        for _ in range(2):
            assert await outcome(login("nobody", "wrong"), registry) is ErrorCode.LOGIN_FAILED
        with pytest.raises(CertwireError) as refused:
            await log_in(login("nobody", "wrong"), registry)
        assert refused.value.retry_after_seconds in {59, 60}
        shift = "UPDATE registry.login_window SET times = ARRAY(SELECT t - {} FROM unnest(times) t)"
        await tables.run(shift.format("interval '50 s'"))
        with pytest.raises(CertwireError) as refused:
            await log_in(login("nobody", "wrong"), registry)
        assert refused.value.retry_after_seconds in {9, 10}
        await tables.run(shift.format("interval '11 s'"))
        assert await outcome(login("nobody", "wrong"), registry) is ErrorCode.LOGIN_FAILED


async def test_a_deactivated_user_neither_logs_in_nor_keeps_a_session(
    place: Place, tables: Tables
) -> None:
    async with a_registry(place) as registry:
        first = await initialised(registry)
        pair = await log_in(login(first.username, first.password), registry)
        await tables.run("UPDATE registry.users SET is_active = false")
        assert await resolved(registry, pair.access_token) is None
        command = login(first.username, first.password)
        assert await outcome(command, registry) is ErrorCode.LOGIN_FAILED


async def test_a_password_changed_during_the_login_makes_no_session(
    place: Place, tables: Tables
) -> None:
    async with a_registry(place) as registry:
        first = await initialised(registry)

        class Interrupted(Passwords):
            async def verify(self, stored: str | None, password: str, deadline: float) -> bool:
                right = await super().verify(stored, password, deadline)
                await tables.run("UPDATE registry.users SET password_hash = 'another'")
                return right

        registry.passwords = Interrupted()
        command = login(first.username, first.password)
        assert await outcome(command, registry) is ErrorCode.LOGIN_FAILED
    assert await tables.values("SELECT count(*) FROM registry.session") == [0]


async def test_a_token_ends_after_15_minutes_and_when_revoked(place: Place, tables: Tables) -> None:
    async with a_registry(place) as registry:
        first = await initialised(registry)
        pair = await log_in(login(first.username, first.password), registry)
        left = "SELECT extract(epoch FROM {} - created_at)::int FROM registry.session"
        assert await tables.values(left.format("access_expires_at")) == [900]
        assert await tables.values(left.format("refresh_expires_at")) == [86400]
        assert await resolved(registry, pair.refresh_token) is None
        await tables.run("UPDATE registry.session SET revoked_at = now()")
        assert await resolved(registry, pair.access_token) is None
        await tables.run("UPDATE registry.session SET revoked_at = NULL, access_expires_at = now()")
        assert await resolved(registry, pair.access_token) is None


async def test_the_same_reset_twice_takes_effect_once(place: Place, tables: Tables) -> None:
    issuer = StandInIssuer()
    async with a_registry(place, issuer) as registry:
        await initialised(registry)
        await reset_admin(reset("k"), registry)
        with pytest.raises(CertwireError) as repeated:
            await reset_admin(reset("k"), registry)
    assert repeated.value.code is ErrorCode.IDEMPOTENCY_SECRET_SHOWN
    assert len(issuer.made) == 2
    assert await tables.values(STATES) == ["superseded", "current"]


async def test_before_init_there_is_nothing_to_reset(place: Place) -> None:
    async with a_registry(place) as registry:
        with pytest.raises(CertwireError) as refused:
            await reset_admin(reset(), registry)
        assert refused.value.code is ErrorCode.NOT_INITIALISED
        with pytest.raises(CertwireError) as refused:
            await complete_onboarding(CompleteOnboarding(call=call()), registry)
        assert refused.value.code is ErrorCode.NOT_INITIALISED


async def test_onboarding_is_completed_once(place: Place, tables: Tables) -> None:
    async with a_registry(place) as registry:
        await initialised(registry)
        command = CompleteOnboarding(call=call())
        await complete_onboarding(command, registry)
        await complete_onboarding(command, registry)
    assert await tables.values("SELECT onboarding FROM registry.platform") == ["COMPLETED"]
    assert (await tables.values(ACTIONS)).count("onboarding_complete") == 1


async def test_credentials_that_are_refused_are_recorded(place: Place, tables: Tables) -> None:
    async with a_registry(place) as registry:
        first = await initialised(registry)
        mine, foreign = first.admin.certificate.fingerprint, "ab" * 32
        assert await who(registry, foreign, mine) == [None, PrincipalKind.ADMIN]
        await tables.run("UPDATE registry.admin_certificate SET not_after = now()")
        assert await who(registry, mine) == [None]
    entries = await tables.values(
        "SELECT entry FROM registry.outbox WHERE entry::json->>'outcome' = 'refused'"
        " ORDER BY position"
    )
    unknown, expired = (json.loads(entry) for entry in entries)
    assert unknown["object"]["id"] == foreign
    assert unknown["actor"]["kind"] == "unknown"
    assert unknown["detail"] == {"address": "192.0.2.1", "code": "credential_refused"}
    assert expired["actor"]["kind"] == "admin"
