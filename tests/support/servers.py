"""A Postgres for the session with a fresh database a test, and a fresh NATS a test."""

import asyncio
import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from services.embedded import EmbeddedNats, EmbeddedPostgres, free_port
from services.provisioning.nats import (
    Server,
    add_subscriber,
    ensure_seeds,
    provision_streams,
    users,
    write_configuration,
)
from services.provisioning.postgres import migrate_all, provision_postgres
from shared.secrets import new_key
from shared.settings import Settings

TEMPLATE = "certwire_template"
SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True)
class Place:
    """Where a test's services find everything: its home, its database, its NATS."""

    home: Path
    database_url: str = "postgresql://127.0.0.1:1/none"
    nats_url: str = "nats://127.0.0.1:1"

    def settings(self, kind: type[SettingsT], **others: Any) -> SettingsT:  # noqa: ANN401 - any setting
        """Return a service's settings for this place."""
        places = {"CERTWIRE_DATABASE_URL": self.database_url, "CERTWIRE_NATS_URL": self.nats_url}
        return kind(**{"home": self.home, **places, **others})


@dataclass
class PostgresServer:
    """A running Postgres, provisioned, with a migrated template to copy databases from."""

    home: Path
    superuser_url: str
    _names: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        """Return the address of a database, without credentials."""
        return f"postgresql://{urlsplit(self.superuser_url).netloc.split('@')[-1]}/{database}"

    def superuser_url_of(self, database: str) -> str:
        """Return the address of a database for the superuser."""
        return urlunsplit(urlsplit(self.superuser_url)._replace(path=f"/{database}"))

    @asynccontextmanager
    async def fresh_database(self) -> AsyncIterator[str]:
        """Lend the address of a new copy of the template."""
        name = f"test_{next(self._names)}"
        connection = await asyncpg.connect(self.superuser_url)
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
            yield self.url(name)
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await connection.close()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a Postgres with a home of its own (secrets included); call from the main thread."""
    home = Path(tempfile.mkdtemp(prefix="certwire-test-"))
    server = EmbeddedPostgres(home, free_port(), "superuser", {"fsync": "off"})
    server.prepare()
    with (home / "postgres.log").open("wb") as log:
        process = subprocess.Popen(server.command(), stdout=log, stderr=log, **server.popen)
    try:
        server.wait_ready(process)
        (home / "secrets").mkdir(mode=0o700)
        (home / "secrets" / "kek").write_text(new_key())
        (home / "secrets" / "root.passphrase").write_text("a passphrase")
        ensure_seeds(home / "secrets", users())
        seed = add_subscriber(home / "secrets", "orchestrator")
        (home / "secrets" / "nats-orchestrator-readers.seed").write_text(seed)
        running = PostgresServer(home, server.superuser_url)
        asyncio.run(_make_template(running))
        yield running
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(server.directory, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


async def _make_template(server: PostgresServer) -> None:
    await provision_postgres(server.superuser_url, server.home / "secrets", TEMPLATE)
    await migrate_all(Place(server.home, server.url(TEMPLATE)).settings(Settings))


class NatsServer:
    """A NATS of one test; `stop`, `start` and `wipe` are for tests of its absence."""

    def __init__(self, directory: Path, secrets: Path) -> None:
        self.directory = directory
        self.secrets = secrets
        port = free_port()
        configuration = write_configuration(directory, secrets, Server(port, directory / "store"))
        self.server = EmbeddedNats(configuration, port)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address without credentials."""
        return self.server.url

    async def start(self) -> None:
        """Start and provision the streams."""
        with (self.directory / "nats.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - the main thread must start it
                self.server.command(), stdout=log, stderr=log, **self.server.popen
            )
        deadline = time.monotonic() + 10
        while not self.server.is_ready():
            assert time.monotonic() < deadline, (self.directory / "nats.log").read_text()
            await asyncio.sleep(0.01)
        await provision_streams(self.url, self.secrets)

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def wipe(self) -> None:
        """Lose everything that was stored."""
        shutil.rmtree(self.directory / "store", ignore_errors=True)
