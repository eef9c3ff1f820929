"""What the issuer is told, again and again until it confirms."""

import pytest

from contracts.issuer import GenerateAdminBundle, RevokeRegistryCertificates, VoidRegistryClaims
from contracts.principal import PrincipalKind
from services.registry.handlers.administrator import reset_admin
from services.registry.sweeper import sweep
from tests.support.registry import Crash, StandInIssuer, Tables, a_registry, initialised, reset, who
from tests.support.servers import Place, PostgresServer

STATES = "SELECT state FROM registry.admin_certificate ORDER BY position"
CLAIMS = "SELECT state FROM registry.claim ORDER BY id"
AGE = "UPDATE registry.claim SET created_at = created_at - interval '31 s' WHERE state = 'pending'"


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


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
