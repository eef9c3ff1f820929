"""What Prometheus reads of orders and certificates."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from contracts.acme import CertificateStatus, CertificateType
from contracts.errors import CertwireError, ErrorCode
from contracts.subjects import Service
from services.acme import metrics
from services.acme.settings import AcmeSettings
from services.acme.store import orders
from services.acme.store.condition import Count, Waiting
from services.acme.store.orders import OrderRow
from shared.clock import utc_now
from shared.database import Connection
from shared.runtime import Runtime, cancel
from tests.support.eventually import eventually
from tests.support.public_rows import PublicRows
from tests.support.servers import Place

NOTHING = Waiting(0, 0, 0)


def value(name: str, **labels: str) -> float:
    """Return what Prometheus would read; 0 where there is nothing yet."""
    return REGISTRY.get_sample_value(f"certwire_acme_{name}", labels) or 0.0


@pytest.fixture
async def runtime(place: Place) -> AsyncIterator[Runtime]:
    runtime = await Runtime.open(Service.ACME, place.settings(AcmeSettings))
    yield runtime
    await runtime.close()


async def an_order(connection: Connection, runtime: Runtime) -> OrderRow:
    assert isinstance(runtime.settings, AcmeSettings)
    await PublicRows(connection, runtime.settings.sealer).order("shop")
    [order] = await orders.last(connection, "shop", 1)
    return order


async def test_an_order_is_counted_by_what_it_came_to_and_timed(runtime: Runtime) -> None:
    async with runtime.database.connection() as connection:
        order = await an_order(connection, runtime)
        error = CertwireError(ErrorCode.CA_UNAVAILABLE, "away").reply()
        failed = await orders.end(connection, order.id, error=error)
    valid = replace(
        failed, error=None, staging=True, ended_at=order.created_at + timedelta(seconds=7)
    )
    for ended, labels in (
        (failed, {"directory": "live", "kind": "obtain", "outcome": "ca_unavailable"}),
        (valid, {"directory": "staging", "kind": "obtain", "outcome": "valid"}),
    ):
        before = value("orders_total", **labels)
        seconds = value("order_seconds_sum", **labels)
        metrics.order_ended(ended)
        assert value("orders_total", **labels) == before + 1
        assert ended.ended_at is not None
        taken = (ended.ended_at - ended.created_at).total_seconds()
        assert value("order_seconds_sum", **labels) == pytest.approx(seconds + taken)
        assert taken >= 0


def test_a_gauge_goes_back_to_nothing() -> None:
    status = CertificateStatus.EXPIRED
    labels = {"type": "letsencrypt", "directory": "live", "status": "expired"}
    counts = [
        Count(CertificateType.LETSENCRYPT, False, status, 3, 2),
        Count(CertificateType.LETSENCRYPT, False, CertificateStatus.VALID, 5, 1),
    ]
    metrics.show(counts, Waiting(4, 2, 1))
    assert value("certificates", **labels) == 3
    assert value("certificates_failing", directory="live") == 3
    assert [value(name) for name in ("renewals_due", "orders_pending", "txt_records")] == [4, 2, 1]
    metrics.show(counts[1:], NOTHING)
    assert value("certificates", **labels) == 0
    assert value("certificates", **{**labels, "status": "valid"}) == 5
    assert value("certificates_failing", directory="live") == 1
    metrics.show([], NOTHING)
    assert value("certificates_failing", directory="live") == 0


async def test_the_gauges_follow_the_database(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics.show([], NOTHING)
    monkeypatch.setattr(metrics, "LOOK_SECONDS", 0.05)
    watching = asyncio.create_task(metrics.watch(runtime.database))
    assert isinstance(runtime.settings, AcmeSettings)
    async with runtime.database.connection() as connection:
        rows = PublicRows(connection, runtime.settings.sealer)
        await rows.certificate("shop", renew_at=utc_now() - timedelta(seconds=1))
        await rows.order("shop")

    async def are_seen() -> bool:
        valid = value("certificates", type="letsencrypt", directory="live", status="valid")
        return (valid, value("renewals_due"), value("orders_pending")) == (1, 1, 1)

    try:
        await eventually(are_seen, "the gauges are the database's")
    finally:
        await cancel([watching])
        metrics.show([], NOTHING)
