"""The whole platform, as `certwire up` runs it in a home of its own: a test's view from outside."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg

from services.cli.ports import read_ports
from services.embedded import free_port
from tests.support.command_line import PROGRAM, CommandLine, Done
from tests.support.eventually import eventually

START_SECONDS = 90
STOP_SECONDS = 15
POLL_SECONDS = 0.05
SERVICES = ("gateway", "issuer", "registry", "instance", "acme", "audit")
PARTS = ("postgres", "nats", *SERVICES)
KEY_POOL = {"CERTWIRE_ISSUER_KEY_POOL_RSA2048": "2", "CERTWIRE_ISSUER_KEY_POOL_RSA4096": "1"}
"""Enough for a test, and not so much that a run is busy with making keys that nobody takes."""
NO_CA = {
    "CERTWIRE_ACME_DIRECTORY_URL": "https://127.0.0.1:9/directory",
    "CERTWIRE_ACME_STAGING_DIRECTORY_URL": "https://127.0.0.1:9/staging",
}
"""No test ever asks Let's Encrypt: nothing listens there (RFC 863 is long out of use)."""
WAITING = """
WITH RECURSIVE blocked(pid) AS (
    SELECT unnest($2::integer[])
    UNION SELECT activity.pid FROM pg_stat_activity activity, blocked
    WHERE blocked.pid = ANY(pg_blocking_pids(activity.pid))
)
SELECT count(*) FROM blocked JOIN pg_stat_activity USING (pid) WHERE usename = $1
"""
"""What waits for locks of ours, or for what waits for them: services wait for each other, too."""
OWN_ROW = "SELECT FROM instance.instance WHERE id = $1 FOR UPDATE"
"""Locks what every renewal and bootstrap of one instance goes through."""


class Platform:
    """One `certwire up`; it may be stopped, killed and started again, and keeps its data."""

    def __init__(self, directory: Path, **variables: str) -> None:
        self.home = directory / "home"
        ports = {
            "CERTWIRE_HTTPS_PORT": str(free_port()),
            "CERTWIRE_HTTP_PORT": str(free_port()),
        }
        variables = {**ports, **KEY_POOL, **NO_CA, **variables}
        self.https_port = int(variables["CERTWIRE_HTTPS_PORT"])
        self.http_port = int(variables["CERTWIRE_HTTP_PORT"])
        self.line = CommandLine.at(self.home, CERTWIRE_STOP_WITH_PARENT="1", **variables)
        self._output = directory / "up.log"
        self._runner: subprocess.Popen[bytes] | None = None
        self._locking: set[int] = set()

    # --- Its processes ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.begin()
        deadline = time.monotonic() + START_SECONDS
        while "Ready after" not in self.said:
            assert self.runner.poll() is None, f"it ended:\n{self.said}"
            assert time.monotonic() < deadline, f"it is not ready:\n{self.said}"
            time.sleep(POLL_SECONDS)

    def begin(self) -> None:
        """Start it."""
        self.home.mkdir(exist_ok=True)
        with self._output.open("wb") as output:
            self._runner = subprocess.Popen(
                [PROGRAM, "up"],
                cwd=self.home,
                env=self.line.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def runner(self) -> "subprocess.Popen[bytes]":
        """Return the process of `certwire up`."""
        assert self._runner is not None, "it was never started"
        return self._runner

    @property
    def said(self) -> str:
        """Return what `certwire up` printed since it was started last."""
        return self._output.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Signal the runner; return how many seconds it took until no process was left."""
        begun = time.monotonic()
        if self.runner.poll() is None:
            self.runner.send_signal(number)
        self.runner.wait(STOP_SECONDS)
        lock = self.home / "run" / "children.lock"
        while not _is_free(lock):
            assert time.monotonic() - begun < STOP_SECONDS, f"still there: {self.left()}"
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - begun
        assert not (left := self.left()), f"still there: {left}"
        return seconds

    def pids(self) -> dict[str, int]:
        """Return the process id of each part that runs."""
        pids: dict[str, int] = json.loads((self.home / "run" / "pids.json").read_text())
        return pids

    def pid(self, part: str) -> int:
        """Return the process id of a part."""
        return self.pids()[part]

    def left(self) -> list[str]:
        """Return what still runs of it: by a lock that all of its processes hold, and by name."""
        left = [] if _is_free(self.home / "run" / "children.lock") else ["the lock is held"]
        return left + [" ".join(words) for words in _processes(self.home)]

    def signal(self, part: str, number: signal.Signals) -> None:
        """Signal a part."""
        os.kill(self.pid(part), number)

    def kill(self, part: str) -> int:
        """End a part at once, as a crash would; return which process it was."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextlib.contextmanager
    def without(self, part: str) -> Iterator[None]:
        """Let a part be dead while the block runs: what would start it again stands still."""
        os.kill(self.runner.pid, signal.SIGSTOP)
        try:
            self.kill(part)
            yield
        finally:
            os.kill(self.runner.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def held(self, *parts: str) -> Iterator[None]:
        """Let the parts stand still while the block runs; one that is killed meanwhile stays so."""
        pids = [self.pid(part) for part in parts]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    # --- What it offers --------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Return where the TLS port is."""
        return f"https://localhost:{self.https_port}"

    @property
    def bootstrap(self) -> Path:
        """Return the directory of the first secrets."""
        return self.home / "bootstrap"

    @property
    def ca_file(self) -> Path:
        """Return the CA certificates that clients trust."""
        return self.bootstrap / "ca.crt"

    @property
    def logs(self) -> Path:
        """Return the directory of the logs."""
        return self.home / "logs"

    def ports(self) -> dict[str, int]:
        """Return where the parts listen."""
        return read_ports(self.home)

    async def certwire(self, *words: str, seconds: float = 60) -> Done:
        """Run a command of `certwire` to its end."""
        return await self.line.run(*words, seconds=seconds)

    async def succeed(self, *words: str) -> str:
        """Run a command that has to succeed; return what it printed."""
        done = await self.certwire(*words)
        assert done.code == 0, done
        return done.out

    # --- What it keeps ---------------------------------------------------------------------------

    async def rows(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Return the rows of a query, read as an operator may."""
        connection = await asyncpg.connect(
            (self.bootstrap / "postgres-inspect.url").read_text().strip()
        )
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    async def values(self, sql: str, *arguments: object) -> list[Any]:
        """Return the first column of a query."""
        return [row[0] for row in await self.rows(sql, *arguments)]

    async def value(self, sql: str, *arguments: object) -> Any:  # noqa: ANN401 - whatever the query selects
        """Return the one value of a query, None without any."""
        values = await self.values(sql, *arguments)
        return values[0] if values else None

    @contextlib.asynccontextmanager
    async def superuser(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """Lend a connection that may do everything: for tests that stand in a statement's way."""
        password = (self.home / "secrets" / "postgres-postgres.password").read_text().strip()
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=self.ports()["postgres"],
            user="postgres",
            password=password,
            database="certwire",
        )
        try:
            yield connection
        finally:
            with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
                async with asyncio.timeout(2):
                    await connection.close()

    @contextlib.asynccontextmanager
    async def locked(self, statement: str, *arguments: object) -> AsyncIterator[None]:
        """Hold what a statement locks; a server that is killed meanwhile lets it go."""
        async with self.superuser() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(statement, *arguments)
            pid = connection.get_server_pid()
            self._locking.add(pid)
            try:
                yield
            finally:
                self._locking.discard(pid)
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await transaction.rollback()

    async def until_waiting(self, role: str, statements: int = 1) -> None:
        """Wait until so many statements of a role wait for what is `locked`."""
        async with self.superuser() as connection:

            async def are_waiting() -> bool:
                waiting: int = await connection.fetchval(WAITING, role, list(self._locking))
                return waiting >= statements

            await eventually(are_waiting, f"{role} waits for a lock")


@contextlib.contextmanager
def home_directory() -> Iterator[Path]:
    """Lend a directory that Postgres' user reaches, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="certwire-e2e-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def running_platform(**variables: str) -> Iterator[Platform]:
    """Run a platform of one's own; nothing of it is left afterwards."""
    with home_directory() as directory:
        platform = Platform(directory, **variables)
        try:
            platform.start()
            yield platform
        finally:
            platform.stop()


def _is_free(lock: Path) -> bool:
    if not lock.exists():
        return True
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _processes(home: Path) -> Iterator[list[str]]:
    """Yield the command lines of processes that name the home, or have it in their environment."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_text().split("\0")
            own = os.fsencode(f"CERTWIRE_HOME={home}") in (entry / "environ").read_bytes()
            if words != [""] and (own or any(str(home) in word for word in words)):
                yield [entry.name, *words]
