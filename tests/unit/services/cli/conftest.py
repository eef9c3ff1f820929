"""What the commands' tests may ask for."""

from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.registry import Tables
from tests.support.servers import Place, PostgresServer
from tests.support.stack import Stack


@pytest.fixture
async def stack(
    bus_place: Place, postgres: PostgresServer, tmp_path: Path, database_url: str
) -> Stack:
    """Return an initialised home beside the test's Postgres and NATS."""
    home = tmp_path / "home"
    line = CommandLine.embedded(home, bus_place, postgres)
    done = await line.run("init")
    assert done.code == 0, done.err
    return Stack(line, home, bus_place, Tables(postgres, database_url))
