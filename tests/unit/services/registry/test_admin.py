"""The administrator's certificate: reset and its crashes."""

import asyncio
import json

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import GenerateAdminBundle
from contracts.principal import PrincipalKind
from services.registry.handlers.administrator import reset_admin
from services.registry.sweeper import sweep
from tests.support.registry import StandInIssuer, Tables, a_registry, initialised, reset, who
from tests.support.servers import Place, PostgresServer

STATES = "SELECT state FROM registry.admin_certificate ORDER BY position"
ACTIONS = "SELECT entry::json->>'action' FROM registry.outbox ORDER BY position"


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


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
        made = issuer.made[-1]
        assert isinstance(made, GenerateAdminBundle)
        assert made.renews == old
        await sweep(registry)
        await sweep(registry)
    [told] = issuer.revoked
    assert [revocation.fingerprint for revocation in told.revocations] == [old]
    assert told.revocations[0].actor.kind is PrincipalKind.OPERATOR
    [event] = await tables.values(
        "SELECT event FROM registry.outbox WHERE event_subject LIKE '%.admin.%'"
    )
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
        assert undone.value.code is ErrorCode.CLAIM_VOIDED
        assert await who(registry, first.admin.certificate.fingerprint) == [PrincipalKind.ADMIN]
    assert await tables.values(ACTIONS) == ["admin_create", "user_create"]
