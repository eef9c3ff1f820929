"""The fixtures; `tests/conftest.py` makes them known everywhere."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.servers import NatsServer, Place, PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of a process."""
    with postgres_server() as server:
        yield server


@pytest.fixture
async def database_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """A migrated database of the test's own; the address has no credentials."""
    async with postgres.fresh_database() as url:
        yield url


@pytest.fixture
async def nats_server(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A NATS of the test's own, streams provisioned."""
    server = NatsServer(tmp_path / "nats", postgres.home / "secrets")
    await server.start()
    yield server
    server.stop()


@pytest.fixture
def place(postgres: PostgresServer, database_url: str) -> Place:
    """Where a service without NATS finds everything."""
    return Place(postgres.home, database_url)


@pytest.fixture
def bus_place(postgres: PostgresServer, database_url: str, nats_server: NatsServer) -> Place:
    """Where a service with NATS finds everything."""
    return Place(postgres.home, database_url, nats_server.url)
