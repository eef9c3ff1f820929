"""Metrics of the acme service: what its orders came to, and how its certificates are.

Orders are counted by the replica that ends them. The gauges are the database's, the same at every
replica, looked at once a minute.
"""

import asyncio
from itertools import product
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from contracts.acme import CertificateStatus, CertificateType, OrderState
from contracts.errors import ErrorReply
from services.acme.store import condition
from services.acme.store.condition import Count, Waiting
from services.acme.store.orders import OrderRow
from shared.database import Database

LOOK_SECONDS: Final = 60.0

_ORDER: Final = ["directory", "kind", "outcome"]
ORDERS: Final = Counter("certwire_acme_orders_total", "Orders that ended", _ORDER)
SECONDS: Final = Histogram(
    "certwire_acme_order_seconds",
    "Time from an order's beginning to its end",
    _ORDER,
    buckets=(1, 2.5, 5, 10, 20, 30, 60, 90, 300, 900, 3600, 14400),
)
BEGUN: Final = Counter(
    "certwire_acme_renewals_begun_total", "Renewals that began by themselves", ["directory"]
)
_CERTIFICATE: Final = ["type", "directory", "status"]
CERTIFICATES: Final = Gauge("certwire_acme_certificates", "Certificates of projects", _CERTIFICATE)
FAILING: Final = Gauge(
    "certwire_acme_certificates_failing", "Certificates whose last renewal failed", ["directory"]
)
DUE: Final = Gauge("certwire_acme_renewals_due", "Certificates whose renewal is due")
PENDING: Final = Gauge("certwire_acme_orders_pending", "Orders that go on")
RECORDS: Final = Gauge("certwire_acme_txt_records", "TXT records that are to be removed")


def directory_kind(*, staging: bool) -> str:
    """Return what a directory is called in labels."""
    return "staging" if staging else "live"


def order_ended(order: OrderRow) -> None:
    """Count an order whose end is committed; one that failed has its error's code as outcome."""
    outcome = str(OrderState.VALID)
    if order.error is not None:
        outcome = str(ErrorReply.model_validate_json(order.error).code)
    labels = (directory_kind(staging=order.staging), order.kind, outcome)
    ORDERS.labels(*labels).inc()
    assert order.ended_at is not None  # noqa: S101 - it has ended
    SECONDS.labels(*labels).observe((order.ended_at - order.created_at).total_seconds())


async def watch(database: Database) -> None:
    """Keep the gauges as the database has them, for as long as the process lives."""
    while True:
        async with database.connection() as connection:
            show(await condition.certificates(connection), await condition.waiting(connection))
        await asyncio.sleep(LOOK_SECONDS)


def show(counts: list[Count], waiting: Waiting) -> None:
    """Set the gauges; what there is none of any more is 0."""
    for kind, directory, status in product(CertificateType, ("live", "staging"), CertificateStatus):
        CERTIFICATES.labels(kind, directory, status).set(0)
    for directory in ("live", "staging"):
        FAILING.labels(directory).set(0)
    for each in counts:
        directory = directory_kind(staging=each.staging)
        CERTIFICATES.labels(each.type, directory, each.status).set(each.certificates)
        FAILING.labels(directory).inc(each.failing)
    DUE.set(waiting.renewals)
    PENDING.set(waiting.orders)
    RECORDS.set(waiting.records)
