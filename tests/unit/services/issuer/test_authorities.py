"""Which CA signs, as replicas come and CAs go."""

import asyncio
from datetime import timedelta

import pytest

from contracts.errors import CertwireError, ErrorCode
from services.issuer import authorities
from services.issuer.authorities import Authorities
from services.issuer.bootstrap import create_platform_ca
from services.issuer.handlers.platform import sign_instance_certificate
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from shared.clock import utc_now
from shared.secrets import new_key
from tests.unit.services.issuer.builders import order
from tests.unit.services.issuer.conftest import Records

RETIRE = "UPDATE ca SET state = 'retired' WHERE kind = 'platform_issuing' AND state = 'active'"


async def test_before_init_it_is_not_ready(settings: IssuerSettings, records: Records) -> None:
    await records.rows("DELETE FROM ca WHERE kind = 'platform_issuing'")
    fresh = Authorities(settings, records.issuer.runtime.database)
    with pytest.raises(CertwireError) as refused:
        await fresh.load()
    assert refused.value.code is ErrorCode.NOT_INITIALISED
    assert "certwire init" in refused.value.detail
    assert await fresh.problems()


async def test_signs_with_the_newest_that_is_in_use(
    issuer: Issuer, settings: IssuerSettings, records: Records
) -> None:
    before, _ = issuer.authorities.signing()
    await records.rows(RETIRE)
    with pytest.raises(CertwireError):
        await issuer.authorities.load()
    with pytest.raises(CertwireError) as refused:
        await sign_instance_certificate(order(), issuer)
    assert refused.value.code is ErrorCode.CA_CANNOT_SIGN
    await create_platform_ca(settings)
    await issuer.authorities.load()
    after, _ = issuer.authorities.signing()
    assert after.id > before.id
    await sign_instance_certificate(order(), issuer)
    (row,) = await records.certificates()
    assert row["ca_id"] == after.id
    assert issuer.authorities.bundle().count("BEGIN CERTIFICATE") == 2


async def test_learns_of_a_ca_that_was_made_elsewhere(
    issuer: Issuer, settings: IssuerSettings, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorities, "FOLLOW_SECONDS", 0.01)
    before, _ = issuer.authorities.signing()
    await records.rows(RETIRE)
    await create_platform_ca(settings)
    following = asyncio.create_task(issuer.authorities.follow())
    async with asyncio.timeout(10):
        while issuer.authorities.signing()[0] == before:
            await asyncio.sleep(0.01)
    following.cancel()


async def test_a_key_sealed_under_another_key_does_not_open(
    issuer: Issuer, settings: IssuerSettings
) -> None:
    other = IssuerSettings(**{**settings.model_dump(), "kek": new_key()})
    stranger = Authorities(other, issuer.runtime.database)
    with pytest.raises(CertwireError) as refused:
        await stranger.load()
    assert refused.value.code is ErrorCode.NOT_INITIALISED
    assert await stranger.problems()


async def test_a_sealed_key_opens_in_its_own_row_only(issuer: Issuer, records: Records) -> None:
    await records.rows("UPDATE ca SET id = 1000 WHERE kind = 'platform_issuing'")
    with pytest.raises(CertwireError) as refused:
        await issuer.authorities.load()
    assert refused.value.code is ErrorCode.NOT_INITIALISED


async def test_the_chain_ends_at_the_root(issuer: Issuer) -> None:
    assert [ca.kind for ca in issuer.authorities.chain()] == ["platform_issuing", "platform_root"]


async def test_warns_sixty_days_before_anything_ends(issuer: Issuer) -> None:
    issuing, root = issuer.authorities.chain()
    assert not issuer.authorities.ending(utc_now())
    assert not await issuer.warnings()
    for ca, count in ((issuing, 1), (root, 2)):
        assert len(issuer.authorities.ending(ca.not_after - timedelta(days=59))) == count
