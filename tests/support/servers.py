"""A Postgres for the session with a fresh database a test, and a fresh NATS a test."""

import asyncio
import itertools
import shutil
import signal
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
DISPOSABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "file_copy_method": "clone",  # a new database in a tenth of the time
}
"""Settings of a Postgres whose data nobody misses."""
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
    """A running Postgres, provisioned, with a migrated template to copy databases from.

    `stop` and `start` are for tests of its absence: whoever stops it starts it again.
    """

    home: Path
    server: EmbeddedPostgres
    _process: subprocess.Popen[bytes] | None = None
    _names: Iterator[int] = field(default_factory=itertools.count)

    @property
    def superuser_url(self) -> str:
        """Return the address for the superuser."""
        return self.server.superuser_url

    def url(self, database: str) -> str:
        """Return the address of a database, without credentials."""
        return f"postgresql://{urlsplit(self.superuser_url).netloc.split('@')[-1]}/{database}"

    def superuser_url_of(self, database: str) -> str:
        """Return the address of a database for the superuser."""
        return urlunsplit(urlsplit(self.superuser_url)._replace(path=f"/{database}"))

    def start(self) -> None:
        """Start it; call from the main thread."""
        with (self.home / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.server.command(), stdout=log, stderr=log, **self.server.popen
            )
        self.server.wait_ready(self._process)

    def stop(self) -> None:
        """End it without any checkpoint, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(10)
            self._process = None

    @asynccontextmanager
    async def fresh_database(self) -> AsyncIterator[str]:
        """Lend the address of a new copy of the template."""
        name = f"test_{next(self._names)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        yield self.url(name)
        await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.superuser_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a Postgres with a home of its own (secrets included); call from the main thread."""
    home = Path(tempfile.mkdtemp(prefix="certwire-test-"))
    server = EmbeddedPostgres(home, free_port(), "superuser", DISPOSABLE)
    server.prepare()
    running = PostgresServer(home, server)
    try:
        running.start()
        (home / "secrets").mkdir(mode=0o700)
        (home / "secrets" / "kek").write_text(new_key())
        (home / "secrets" / "root.passphrase").write_text("a passphrase")
        ensure_seeds(home / "secrets", users())
        seed = add_subscriber(home / "secrets", "orchestrator")
        (home / "secrets" / "nats-orchestrator-readers.seed").write_text(seed)
        asyncio.run(_make_template(running))
        yield running
    finally:
        running.stop()
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

    def save(self) -> Path:
        """Return a copy of what is stored."""
        copy = Path(tempfile.mkdtemp(dir=self.directory)) / "store"
        return Path(shutil.copytree(self.directory / "store", copy))

    def restore(self, copy: Path) -> None:
        """Put a copy in the place of what is stored."""
        self.wipe()
        shutil.copytree(copy, self.directory / "store")
