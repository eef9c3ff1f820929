"""A gateway on a real bus, with stand-ins for the services behind it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.gateway.app import Gateway
from tests.nats_server import NatsHome
from tests.support.stand_in import (
    StandIn,
    bus_home,
    gateway_settings,
    running_gateway,
    standing_in,
)


@pytest.fixture(scope="session")
def nats_home() -> Iterator[NatsHome]:
    """One NATS for all tests of a process."""
    with bus_home() as home:
        yield home


@pytest.fixture
def stand_in() -> StandIn:
    """Say what the services answer, before or while the gateway runs."""
    return StandIn()


@pytest.fixture
async def services(nats_home: NatsHome, stand_in: StandIn) -> AsyncIterator[StandIn]:
    """Let all services answer."""
    async with standing_in(nats_home, stand_in):
        yield stand_in


@pytest.fixture
async def gateway(
    nats_home: NatsHome,
    services: StandIn,  # noqa: ARG001 - they have to be there
    tmp_path: Path,
) -> AsyncIterator[Gateway]:
    """Run a gateway with all services behind it."""
    async with running_gateway(gateway_settings(nats_home, tmp_path)) as running:
        yield running
