"""Who works on an order: the holder of its lease, and nobody else writes what comes of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from services.acme.service import Acme
from services.acme.store import orders
from shared.database import Connection


class LeaseLostError(Exception):
    """Another replica goes on with the order."""


@asynccontextmanager
async def holding(acme: Acme, order_id: UUID, lease: UUID) -> AsyncIterator[Connection]:
    """Open a transaction in which the order is ours. Raises `LeaseLostError`."""
    async with acme.runtime.database.transaction() as connection:
        if not await orders.hold(connection, order_id, lease):
            raise LeaseLostError(order_id)
        yield connection
