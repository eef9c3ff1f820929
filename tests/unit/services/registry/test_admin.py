"""The administrator's certificate: reset, its crashes, and what the issuer is told."""

import asyncio
import json

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import GenerateAdminBundle, RevokeRegistryCertificates, VoidRegistryClaims
from contracts.messages import IdempotencyKey
from contracts.principal import Credential, CredentialKind, PrincipalKind
from contracts.registry import CompleteOnboarding, ResetAdmin, ResolveCredentials
from services.registry.bootstrap import FirstSecrets, create_admin_and_superuser
from services.registry.handlers import complete_onboarding, reset_admin, resolve_credentials
from services.registry.service import Registry
from services.registry.sweeper import sweep
from tests.support.registry import Crash, StandInIssuer, Tables, a_registry, initialised
from tests.support.running import call
from tests.support.servers import Place, PostgresServer

STATES = "SELECT state FROM registry.admin_certificate ORDER BY position"
CLAIMS = "SELECT state FROM registry.claim ORDER BY id"
AGE = "UPDATE registry.claim SET created_at = created_at - interval '31 s' WHERE state = 'pending'"
ACTIONS = "SELECT entry::json->>'action' FROM registry.outbox ORDER BY position"


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


def reset(key: str | None = None) -> ResetAdmin:
    idempotency = IdempotencyKey(scope="0" * 64, key=key, request="1" * 64) if key else None
    return ResetAdmin(call=call().model_copy(update={"idempotency": idempotency}))


async def who(registry: Registry, *fingerprints: str) -> list[PrincipalKind | None]:
    questions = tuple(
        ResolveCredentials.Question(
            credential=Credential(kind=CredentialKind.CERTIFICATE, sha256=fingerprint),
            request_id="r",
            source_address="192.0.2.1",
        )
        for fingerprint in fingerprints
    )
    command = ResolveCredentials(call=call(), questions=questions)
    reply = await resolve_credentials(command, registry)
    return [principal.kind if principal else None for principal in reply.principals]


async def test_a_reset_makes_a_new_administrator_and_revokes_the_old_one(
    place: Place, tables: Tables
) -> None:
    issuer = StandInIssuer()
    async with a_registry(place, issuer) as registry:
        first = await initialised(registry)
        reply = await reset_admin(reset(), registry)
        old = first.admin.certificate.fingerprint
        [new] = await tables.values(
            "SELECT fingerprint FROM registry.admin_certificate WHERE state = 'current'"
        )
        assert await who(registry, old, new) == [None, PrincipalKind.ADMIN]
        assert await tables.values(STATES) == ["superseded", "current"]
        assert len(reply.password) == 32
        assert issuer.made[-1].renews == old
        await sweep(registry)
        await sweep(registry)
    [told] = issuer.revoked
    assert [revocation.fingerprint for revocation in told.revocations] == [old]
    assert told.revocations[0].actor.kind is PrincipalKind.OPERATOR
    [event] = await tables.values("SELECT event FROM registry.outbox WHERE event IS NOT NULL")
    assert json.loads(event)["fingerprint"] == new
    assert reply.password not in str(await tables.run("SELECT * FROM registry.outbox"))


async def test_the_bundle_is_kept_sealed_and_forgotten_with_its_certificate(
    place: Place, tables: Tables
) -> None:
    async with a_registry(place) as registry:
        await initialised(registry)
        query = "SELECT pkcs12, fingerprint FROM registry.admin_certificate ORDER BY position"
        [(sealed, fingerprint)] = await tables.run(query)
        row = f"registry.admin_certificate.pkcs12:{fingerprint}"
        assert b"new" not in sealed
        assert registry.sealer.open(sealed, row) == b"new"
        await reset_admin(reset(), registry)
        assert (await tables.run(query))[0]["pkcs12"] is None


async def test_two_resets_at_once_leave_one_administrator(place: Place, tables: Tables) -> None:
    async with a_registry(place) as registry:
        await initialised(registry)
        await asyncio.gather(*(reset_admin(reset(), registry) for _ in range(5)))
    assert sorted(await tables.values(STATES)) == ["current"] + ["superseded"] * 5


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


@pytest.mark.parametrize("point", ["crash_before", "crash_after"])
async def test_a_crash_around_the_signing_changes_nothing_and_is_voided(
    place: Place, tables: Tables, point: str
) -> None:
    issuer = StandInIssuer()
    async with a_registry(place, issuer) as registry:
        first = await initialised(registry)
        setattr(issuer, point, GenerateAdminBundle)
        with pytest.raises(Crash):
            await reset_admin(reset(), registry)
        assert await tables.values(CLAIMS) == ["recorded", "pending"]
        await sweep(registry)
        assert issuer.voided == []
        await tables.run(AGE)
        issuer.crash_after = VoidRegistryClaims  # the confirmation is lost: told again
        with pytest.raises(Crash):
            await sweep(registry)
        issuer.crash_after = issuer.crash_before = None
        await sweep(registry)
        await sweep(registry)
        assert await tables.values(CLAIMS) == ["recorded", "voided"]
        assert len(issuer.voided) == 2
        assert issuer.voided[0].claim_ids == issuer.voided[1].claim_ids
        assert await who(registry, first.admin.certificate.fingerprint) == [PrincipalKind.ADMIN]
        await reset_admin(reset(), registry)
    assert await tables.values(STATES) == ["superseded", "current"]


async def test_a_certificate_that_comes_after_its_claim_was_voided_is_not_recorded(
    place: Place, tables: Tables
) -> None:
    class Slow(StandInIssuer):
        async def request(self, command: object) -> object:
            reply = await super().request(command)  # type: ignore[arg-type]  # as it came
            if isinstance(command, GenerateAdminBundle) and len(self.made) > 1:
                await tables.run(
                    "UPDATE registry.claim SET state = 'voided' WHERE state = 'pending'"
                )
            return reply

    async with a_registry(place, Slow()) as registry:
        first = await initialised(registry)
        with pytest.raises(CertwireError) as undone:
            await reset_admin(reset(), registry)
        assert undone.value.code is ErrorCode.OUTCOME_UNKNOWN
        assert await who(registry, first.admin.certificate.fingerprint) == [PrincipalKind.ADMIN]
    assert await tables.values(ACTIONS) == ["admin_create", "user_create"]


async def test_a_revocation_is_told_until_it_is_confirmed(place: Place) -> None:
    issuer = StandInIssuer()
    async with a_registry(place, issuer) as registry:
        await initialised(registry)
        await reset_admin(reset(), registry)
        issuer.crash_before = RevokeRegistryCertificates
        with pytest.raises(Crash):
            await sweep(registry)
        issuer.crash_before, issuer.crash_after = None, RevokeRegistryCertificates
        with pytest.raises(Crash):
            await sweep(registry)
        issuer.crash_after = None
        await sweep(registry)
        await sweep(registry)
    assert [told.revocations for told in issuer.revoked] == [issuer.revoked[0].revocations] * 2


async def test_the_first_administrator_is_made_once(place: Place, tables: Tables) -> None:
    async with a_registry(place) as registry:
        made = await asyncio.gather(
            *(create_admin_and_superuser(registry, lambda _: None) for _ in range(3))
        )
        assert sorted(made) == [False, False, True]
        assert not await create_admin_and_superuser(registry, lambda _: None)
    assert await tables.values(STATES) == ["current"]
    assert await tables.values("SELECT username FROM registry.users") == ["superuser"]
    assert await tables.values(ACTIONS) == ["admin_create", "user_create"]


async def test_a_crash_while_the_secrets_are_handed_out_leaves_nobody(
    place: Place, tables: Tables
) -> None:
    def crash(_: FirstSecrets) -> None:
        raise Crash

    async with a_registry(place) as registry:
        with pytest.raises(Crash):
            await create_admin_and_superuser(registry, crash)
        assert await tables.values(STATES) == []
        assert await tables.values("SELECT count(*) FROM registry.users") == [0]
        assert await tables.values(ACTIONS) == []
        await initialised(registry)
    assert await tables.values(CLAIMS) == ["pending", "recorded"]


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
