"""The administrator's certificate: rotation, its grant, the upgrade, and what it is told."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from contracts.agents import (
    AdminAuthMode,
    Bundle,
    DownloadAdminBundle,
    GetAuthMode,
    GetMtlsCertificates,
    MtlsCertificates,
    RotateAdmin,
    RotatedAdmin,
    UpgradeAdmin,
    UpgradedAdmin,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.registry import ResetAdmin
from services.registry.handlers.administrator import reset_admin
from shared.clock import utc_now
from shared.x509 import fingerprint
from tests.contract.registry.dialogue import Dialogue, certificate, keyed
from tests.support.csr import csr_pem, new_key
from tests.support.outcomes import refused
from tests.support.running import call


def leaf_of(bundle: Bundle, password: str) -> x509.Certificate:
    _, leaf, chain = pkcs12.load_key_and_certificates(bundle.pkcs12, password.encode())
    assert leaf is not None
    assert chain
    return leaf


def download(by: str, *, legacy: bool = False) -> DownloadAdminBundle:
    return DownloadAdminBundle(call=call(), credential=certificate(by), legacy=legacy)


def upgrade(by: str, csr: str | None = None) -> UpgradeAdmin:
    return UpgradeAdmin(call=call(), credential=certificate(by), csr_pem=csr or csr_pem())


async def rotate(registry: Dialogue, by: str | None = None) -> tuple[str, RotatedAdmin]:
    """Rotate and return the fingerprint of the new certificate, with the reply."""
    credential = certificate(by or registry.admin)
    rotated = await registry.send(RotateAdmin(call=call(), credential=credential))
    [new] = await registry.tables.values(
        "SELECT fingerprint FROM registry.admin_certificate WHERE state = 'current'"
    )
    return new, rotated


async def test_a_rotation_revokes_the_one_that_asked(registry: Dialogue) -> None:
    old = registry.admin
    new, rotated = await rotate(registry)
    assert not await registry.is_admin(old)
    assert await registry.is_admin(new)
    assert len(bytes.fromhex(rotated.p12_password)) == 16
    assert timedelta(days=729) < rotated.expires_at - utc_now() < timedelta(days=732)
    for legacy in (False, True):
        leaf = leaf_of(await registry.send(download(new, legacy=legacy)), rotated.p12_password)
        assert fingerprint(leaf.public_bytes(Encoding.DER)) == new
    assert "admin.rotated" in await registry.events()
    await registry.eventually_revoked(old)
    assert await registry.issued("admin") == [(old, "superseded"), (new, None)]


async def test_the_superseded_one_may_fetch_the_bundle_once(registry: Dialogue) -> None:
    old = registry.admin
    new, rotated = await rotate(registry)
    replies = await asyncio.gather(
        *(registry.send(download(old, legacy=True)) for _ in range(10)), return_exceptions=True
    )
    [bundle] = [reply for reply in replies if isinstance(reply, Bundle)]
    assert fingerprint(leaf_of(bundle, rotated.p12_password).public_bytes(Encoding.DER)) == new
    codes = [reply.code for reply in replies if isinstance(reply, CertwireError)]
    assert codes == [ErrorCode.CREDENTIAL_REFUSED] * 9
    details = await registry.tables.run(
        "SELECT entry::json->'detail'->>'format' AS format, entry::json->'detail'->>'granted'"
        " AS granted, entry::json->'actor'->>'fingerprint' AS who FROM registry.outbox"
        " WHERE entry::json->>'action' = 'admin_download' AND entry::json->>'outcome' = 'success'"
    )
    assert [tuple(row.values()) for row in details] == [("legacy", "true", old)]


async def test_the_grant_ends_after_ten_minutes_and_with_what_it_was_for(
    registry: Dialogue,
) -> None:
    first = registry.admin
    second, _ = await rotate(registry)
    await registry.tables.run(
        "UPDATE registry.admin_certificate SET download_until = download_until - interval '10 min'"
    )
    assert await registry.code(download(first)) is ErrorCode.CREDENTIAL_REFUSED
    third, _ = await rotate(registry, second)
    await rotate(registry, third)
    assert await registry.code(download(second)) is ErrorCode.CREDENTIAL_REFUSED
    assert await registry.code(download(third)) is None


async def test_a_reset_grants_nothing(registry: Dialogue) -> None:
    second, _ = await rotate(registry)
    await reset_admin(ResetAdmin(call=call()), registry.registry)
    for old in (registry.admin, second):
        assert await registry.code(download(old)) is ErrorCode.CREDENTIAL_REFUSED


async def test_of_rotations_at_once_one_makes_the_administrator(registry: Dialogue) -> None:
    commands = [RotateAdmin(call=call(), credential=certificate(registry.admin)) for _ in range(8)]
    replies = await asyncio.gather(*map(registry.send, commands), return_exceptions=True)
    outcomes = Counter(r.code if isinstance(r, CertwireError) else type(r) for r in replies)
    assert outcomes == {RotatedAdmin: 1, ErrorCode.CREDENTIAL_REFUSED: 7}
    [current] = await registry.tables.values(
        "SELECT fingerprint FROM registry.admin_certificate WHERE state = 'current'"
    )
    issued = {fingerprint for fingerprint, _ in await registry.issued("admin")}
    await registry.eventually_revoked(*(issued - {current}))
    assert await registry.is_admin(current)


async def test_a_repeated_rotation_says_that_the_first_took_effect(registry: Dialogue) -> None:
    circumstances = keyed("k", registry.admin)
    await registry.as_admin(RotateAdmin, call=circumstances)
    with refused(ErrorCode.IDEMPOTENCY_SECRET_SHOWN):
        await registry.as_admin(RotateAdmin, call=circumstances)
    with refused(ErrorCode.CREDENTIAL_REFUSED):
        await registry.as_admin(RotateAdmin, call=keyed("another", registry.admin))


async def test_an_upgrade_ends_the_bundle(registry: Dialogue) -> None:
    old, key = registry.admin, new_key()
    upgraded: UpgradedAdmin = await registry.send(upgrade(old, csr_pem(key)))
    new = upgraded.certificate.fingerprint
    leaf = x509.load_pem_x509_certificate(upgraded.certificate.certificate_pem.encode())
    assert leaf.public_key() == key.public_key()
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificates(upgraded.ca_pem.encode())[-1])
    assert not await registry.is_admin(old)
    mode = await registry.send(GetAuthMode(call=call(), credential=certificate(new)))
    assert mode.mode is AdminAuthMode.HARDWARE_BOUND
    assert await registry.code(download(new)) is ErrorCode.GONE
    rotation = RotateAdmin(call=call(), credential=certificate(new))
    assert await registry.code(rotation) is ErrorCode.GONE
    assert await registry.code(upgrade(new)) is ErrorCode.CONFLICT
    assert await registry.code(download(old)) is ErrorCode.CREDENTIAL_REFUSED
    kept = "SELECT count(*) FROM registry.admin_certificate WHERE pkcs12 IS NOT NULL"
    assert await registry.tables.values(kept) == [0]
    assert "admin.upgraded" in await registry.events()
    await registry.eventually_revoked(old)
    # The way back is on the server.
    await reset_admin(ResetAdmin(call=call()), registry.registry)
    assert not await registry.is_admin(new)


async def test_the_checks_of_an_upgrade_come_in_their_order(registry: Dialogue) -> None:
    assert await registry.code(upgrade("0" * 64, "x" * 8193)) is ErrorCode.CSR_TOO_LARGE
    assert await registry.code(upgrade("0" * 64, "no CSR")) is ErrorCode.CREDENTIAL_REFUSED
    assert await registry.code(upgrade(registry.admin, "no CSR")) is ErrorCode.INVALID_CSR
    assert await registry.is_admin(registry.admin)


async def test_a_lost_upgrade_is_fetched_again_by_its_key(registry: Dialogue) -> None:
    command = UpgradeAdmin(
        call=keyed("k", registry.admin),
        credential=certificate(registry.admin),
        csr_pem=csr_pem(),
    )
    first = await registry.send(command)
    assert await registry.send(command) == first
    assert await registry.is_admin(first.certificate.fingerprint)


async def test_of_an_upgrade_and_a_rotation_at_once_one_wins(registry: Dialogue) -> None:
    replies = await asyncio.gather(
        registry.send(upgrade(registry.admin)), rotate(registry), return_exceptions=True
    )
    codes = [reply.code for reply in replies if isinstance(reply, CertwireError)]
    assert codes == [ErrorCode.CREDENTIAL_REFUSED]


async def test_both_ends_are_told(registry: Dialogue) -> None:
    told: MtlsCertificates = await registry.as_admin(GetMtlsCertificates)
    years = (told.ca_expires_at - utc_now()) / timedelta(days=365.25)
    assert years == pytest.approx(10, abs=0.1)
    assert timedelta(days=729) < told.admin_expires_at - utc_now() < timedelta(days=732)
