"""The platform's CAs are made once, whatever interrupts it."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from cryptography import x509

from contracts.subjects import Service
from services.issuer import bootstrap
from services.issuer.bootstrap import (
    RootKeyError,
    create_platform_ca,
    open_root_key,
    root_key_file,
)
from services.issuer.keys import KeyAlgorithm
from services.issuer.settings import IssuerSettings
from services.issuer.store import cas
from shared.database import Connection, role_url
from tests.support.servers import Place


@pytest.fixture
def settings(place: Place, tmp_path: Path) -> IssuerSettings:
    """Settings with a home of their own: a new root key."""
    secrets = {"CERTWIRE_SECRETS_DIR": place.home / "secrets"}
    return replace(place, home=tmp_path).settings(IssuerSettings, **secrets)


async def rows(settings: IssuerSettings, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(role_url(settings, Service.ISSUER))
    try:
        found: list[asyncpg.Record] = await connection.fetch(sql)
        return found
    finally:
        await connection.close()


async def chain(settings: IssuerSettings) -> list[x509.Certificate]:
    found = await rows(settings, "SELECT certificate FROM ca ORDER BY id")
    return [x509.load_der_x509_certificate(row["certificate"]) for row in found]


@pytest.mark.parametrize(
    "algorithm", [KeyAlgorithm.P256, KeyAlgorithm.RSA2048, KeyAlgorithm.ED25519]
)
async def test_makes_a_root_and_an_issuing_ca(
    settings: IssuerSettings, algorithm: KeyAlgorithm
) -> None:
    await create_platform_ca(settings.model_copy(update={"ca_key_algorithm": algorithm}))
    root, issuing = await chain(settings)
    root.verify_directly_issued_by(root)
    issuing.verify_directly_issued_by(root)
    assert open_root_key(settings).public_key() == root.public_key()
    (point,) = issuing.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (slug, _) = [row["slug"] for row in await rows(settings, "SELECT slug FROM ca ORDER BY id")]
    assert [uri.value for uri in point.full_name or ()] == [f"{settings.public_url}/crl/{slug}"]


async def test_the_root_key_is_in_a_file_alone_and_the_other_sealed(
    settings: IssuerSettings,
) -> None:
    await create_platform_ca(settings)
    path = root_key_file(settings)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    root, issuing = [
        row["sealed_key"] for row in await rows(settings, "SELECT sealed_key FROM ca ORDER BY id")
    ]
    assert root is None
    assert b"PRIVATE" not in issuing


async def test_everything_is_recorded(settings: IssuerSettings) -> None:
    await create_platform_ca(settings)
    told = await rows(settings, "SELECT entry, event_subject FROM outbox ORDER BY position")
    assert [
        (json.loads(row["entry"])["action"], row["event_subject"].split(".", 2)[2]) for row in told
    ] == [
        *[("ca_create", "ca.created"), ("cert_create", "certificate.issued")] * 2,
        ("crl_publish", "crl.published"),
        ("cert_create", "certificate.issued"),
    ]
    kinds = [
        row["kind"] for row in await rows(settings, "SELECT kind FROM certificate ORDER BY id")
    ]
    assert kinds == ["root_ca", "issuing_ca", "ocsp_responder"]
    assert not await rows(
        settings,
        "SELECT FROM ca LEFT JOIN certificate USING (fingerprint, certificate)"
        " WHERE serial_hex IS NULL",
    )


async def test_once_is_enough(settings: IssuerSettings) -> None:
    await create_platform_ca(settings)
    before = await chain(settings)
    await create_platform_ca(settings)
    assert await chain(settings) == before


async def test_many_at_once_make_one(settings: IssuerSettings) -> None:
    await asyncio.gather(*(create_platform_ca(settings) for _ in range(5)))
    assert len(await chain(settings)) == 2


async def test_a_key_that_was_left_behind_is_used(settings: IssuerSettings) -> None:
    """A crash after step 1."""
    key = bootstrap.ensure_root_key(settings)
    await create_platform_ca(settings)
    assert (await chain(settings))[0].public_key() == key.public_key()


async def test_a_crash_within_the_transaction_leaves_nothing_but_the_key(
    settings: IssuerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    insert = cas.insert_ca

    async def crash(connection: Connection, ca: cas.Ca) -> None:
        nonlocal made
        made += 1
        if made == 2:
            raise KeyboardInterrupt
        await insert(connection, ca)

    monkeypatch.setattr(cas, "insert_ca", crash)
    with pytest.raises(KeyboardInterrupt):
        await create_platform_ca(settings)
    assert not await chain(settings)
    await create_platform_ca(settings)
    assert len(await chain(settings)) == 2


async def test_the_root_key_may_be_away_once_there_is_an_issuing_ca(
    settings: IssuerSettings,
) -> None:
    await create_platform_ca(settings)
    root_key_file(settings).unlink()
    await create_platform_ca(settings)
    assert len(await chain(settings)) == 2
    assert not root_key_file(settings).exists()


async def test_says_that_the_root_key_is_needed(settings: IssuerSettings) -> None:
    await create_platform_ca(settings)
    await rows(settings, "UPDATE ca SET state = 'retired' WHERE kind = 'platform_issuing'")
    path = root_key_file(settings)
    path.rename(path.with_suffix(".away"))
    with pytest.raises(RootKeyError, match="the root's key is not at"):
        await create_platform_ca(settings)
    bootstrap.ensure_root_key(settings)
    with pytest.raises(RootKeyError, match="not the one of its certificate"):
        await create_platform_ca(settings)
    path.write_text("garbage")
    with pytest.raises(RootKeyError, match="does not open"):
        await create_platform_ca(settings)
    path.with_suffix(".away").rename(path)
    await create_platform_ca(settings)
    assert len(await chain(settings)) == 3


async def test_without_a_key_encryption_key_nothing_is_made(
    settings: IssuerSettings, tmp_path: Path
) -> None:
    elsewhere = settings.model_copy(update={"secrets_directory": tmp_path})
    with pytest.raises(FileNotFoundError):
        await create_platform_ca(elsewhere)
    assert not root_key_file(settings).exists()
