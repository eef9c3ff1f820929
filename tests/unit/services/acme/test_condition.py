"""What `certwire status` says of orders and certificates, and the figures behind the metrics."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from contracts.acme import CertificateStatus, CertificateType
from contracts.subjects import Service
from services.acme import condition as module
from services.acme.condition import warnings
from services.acme.settings import AcmeSettings
from services.acme.store import accounts, certificates, condition, orders
from services.acme.store.condition import Count, Waiting
from shared.clock import rfc3339, utc_now
from shared.database import Connection
from shared.runtime import Runtime
from tests.support.plans import plan_of
from tests.support.public_rows import DIRECTORY, PublicRows
from tests.support.servers import Place

FAILED_RECORDS = "UPDATE dns_record SET remove_at = now() + interval '1 hour', attempts = $1"
MANY = """
INSERT INTO certificate (project_id, type, domain, names, fingerprint, serial_hex, subject, issuer,
    not_before, not_after, chain_pem, sealed_key, issuance, renew_at)
SELECT id, 'letsencrypt', domain, ARRAY[domain], '', '', '', '', now(),
    now() + interval '80 days' + random() * interval '10 days', '', decode('01', 'hex'), '{}',
    now() + interval '60 days'
FROM project
"""


@dataclass
class Acme:
    """A service's database, and rows in it."""

    runtime: Runtime
    connection: Connection
    rows: PublicRows

    async def warnings(self) -> list[str]:
        return await warnings(self.runtime.database)

    async def failing(self, name: str, ends_in: timedelta, error: str = "refused") -> str:
        """Put a certificate there that could not be renewed; return when it ends."""
        not_after = utc_now() + ends_in
        found = await self.rows.certificate(name, not_after=not_after)
        await certificates.renewal_failed(self.connection, found, 3, error, not_after)
        return rfc3339(not_after)


@pytest.fixture
async def acme(place: Place) -> AsyncIterator[Acme]:
    settings = place.settings(AcmeSettings)
    runtime = await Runtime.open(Service.ACME, settings)
    try:
        async with runtime.database.connection() as connection:
            yield Acme(runtime, connection, PublicRows(connection, settings.sealer))
    finally:
        await runtime.close()


async def test_a_service_that_works_has_no_warnings(acme: Acme) -> None:
    await acme.rows.everything("shop")
    await acme.rows.certificate("ending", not_after=utc_now() + timedelta(days=3))  # is renewed
    assert await acme.warnings() == []


# --- Renewals that fail --------------------------------------------------------------------------


async def test_names_the_certificate_that_ends_and_could_not_be_renewed(acme: Acme) -> None:
    await acme.failing("later", timedelta(days=15))
    end = await acme.failing("shop", timedelta(days=13), "The CA refused: no")
    [warning] = await acme.warnings()
    assert warning == (
        "a certificate could not be renewed, that of shop.example.com ends at"
        f" {end}: The CA refused: no"
    )


async def test_names_the_most_urgent_of_several(acme: Acme) -> None:
    await acme.failing("shop", timedelta(days=13))
    end = await acme.failing("ended", timedelta(days=-2), "")
    [warning] = await acme.warnings()
    assert warning == (
        "2 certificates that end within 14 days could not be renewed; that of ended.example.com"
        f" ended at {end}: no reason is known"
    )


async def test_what_a_ca_said_is_a_line_and_no_page(acme: Acme) -> None:
    await acme.failing("shop", timedelta(days=1), "The CA refused:\x1b[2J\n" + "x" * 5000)
    [warning] = await acme.warnings()
    assert warning.isprintable()
    assert len(warning) < 300


async def test_a_revoked_certificate_and_stagings_may_end(acme: Acme) -> None:
    revoked = await acme.rows.certificate("revoked", not_after=utc_now() + timedelta(days=1))
    tried = await acme.rows.certificate(
        "tried", staging=True, not_after=utc_now() + timedelta(days=1)
    )
    for each in (revoked, tried):
        await certificates.renewal_failed(acme.connection, each, 1, "refused", utc_now())
    await certificates.revoke(acme.connection, revoked)
    assert await acme.warnings() == []


# --- CAs, records, orders ------------------------------------------------------------------------


async def test_says_which_ca_is_left_alone_and_why(acme: Acme) -> None:
    await accounts.pause(acme.connection, DIRECTORY, 600, "rateLimited: too many orders", 100)
    await accounts.pause(acme.connection, "https://over.example", -5, "was away", 100)
    [warning] = await acme.warnings()
    assert warning.startswith(f"{DIRECTORY} is left alone until 2")
    assert warning.endswith(": rateLimited: too many orders")


async def test_names_the_records_that_stay(acme: Acme) -> None:
    await acme.rows.order("shop")
    await acme.connection.execute(FAILED_RECORDS, 4)
    assert await acme.warnings() == []
    await acme.connection.execute(FAILED_RECORDS, 5)
    record = "_acme-challenge.shop.example.com at cloudflare"
    assert await acme.warnings() == [f"a TXT record could not be removed yet: {record}"]
    await acme.rows.order("other")
    await acme.connection.execute(FAILED_RECORDS, 40)
    assert await acme.warnings() == [f"2 TXT records could not be removed yet, such as {record}"]


async def test_says_that_orders_pile_up(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY_ORDERS", 1)
    await acme.rows.order("shop")
    assert await acme.warnings() == []
    [first] = await orders.last(acme.connection, "shop", 1)
    await acme.rows.order("other")
    assert await acme.warnings() == [
        f"2 orders go on, the oldest since {rfc3339(first.created_at)}"
    ]


# --- Figures -------------------------------------------------------------------------------------


async def test_counts_certificates_as_their_status_is_shown(acme: Acme) -> None:
    now = utc_now()
    ends = {"valid": 31.1, "soon": 30.9, "ended": -0.1, "revoked": 50.0}
    for name, days in ends.items():
        await acme.rows.certificate(name, not_after=now + timedelta(days=days))
    await acme.rows.certificate("tried", staging=True)
    await acme.rows.certificate("uploaded", type=CertificateType.CUSTOM)
    for name in ("revoked", "soon"):
        found = await certificates.visible(acme.connection, name)
        assert found is not None
        if name == "revoked":
            await certificates.revoke(acme.connection, found.id)
        else:
            await certificates.renewal_failed(acme.connection, found.id, 1, "refused", now)
    counts = await condition.certificates(acme.connection)
    ours = CertificateType.LETSENCRYPT
    assert set(counts) == {
        Count(ours, False, CertificateStatus.VALID, 1, 0),
        Count(ours, False, CertificateStatus.EXPIRING_SOON, 1, 1),
        Count(ours, False, CertificateStatus.EXPIRED, 1, 0),
        Count(ours, False, CertificateStatus.REVOKED, 1, 0),
        Count(ours, True, CertificateStatus.VALID, 1, 0),
        Count(CertificateType.CUSTOM, False, CertificateStatus.VALID, 1, 0),
    }
    for name, status in (("valid", "valid"), ("soon", "expiring_soon"), ("ended", "expired")):
        shown = await certificates.visible(acme.connection, name)
        assert shown is not None
        assert shown.shown().status == status


async def test_counts_what_waits(acme: Acme) -> None:
    assert await condition.waiting(acme.connection) == Waiting(0, 0, 0)
    await acme.rows.certificate("shop", renew_at=utc_now() - timedelta(seconds=1))
    await acme.rows.certificate("later")
    await acme.rows.order("later")
    await acme.connection.execute(FAILED_RECORDS, 1)
    assert await condition.waiting(acme.connection) == Waiting(1, 1, 1)


async def test_among_many_certificates_the_warning_looks_at_few(acme: Acme) -> None:
    await acme.connection.execute(
        "INSERT INTO project (id, name, domain)"
        " SELECT n, n, n || '.example.com' FROM generate_series(1, 5000) AS n"
    )
    await acme.connection.execute(MANY)
    await acme.connection.execute("ANALYZE certificate")
    for query, arguments in ((condition.FAILING, (14,)), (condition.WAITING, ())):
        plan = await plan_of(acme.connection, query, *arguments)
        assert plan.rows_read < 100
