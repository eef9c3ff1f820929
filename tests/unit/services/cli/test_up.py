"""`certwire up` with real Postgres, NATS and `certwire init`, but without the services.

tests/e2e has the whole stack.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from services.cli import up
from services.cli.errors import CliError
from services.cli.ports import DATABASE_URL, NATS_URL, read_ports
from services.cli.up import UpSettings
from services.embedded import answers, free_port

# Signals may come at any time, so a runner is a process of its own.
RUNNER = """
import sys
from services.cli import main, up
up._services = lambda: []
sys.exit(main.main(["up"]))
"""
ROOT = Path(up.__file__).parent.parent.parent


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a home that Postgres' user reaches, unlike pytest's own directories."""
    directory = Path(tempfile.mkdtemp(prefix="certwire-"))
    directory.chmod(0o755)
    yield directory / "home"
    shutil.rmtree(directory)


def environment(home: Path) -> dict[str, str]:
    outside = {*DATABASE_URL, *NATS_URL}
    kept = {name: value for name, value in os.environ.items() if name not in outside}
    ports = {
        "CERTWIRE_HTTPS_PORT": str(free_port()),
        "CERTWIRE_HTTP_PORT": str(free_port()),
    }
    return {**kept, **ports, "CERTWIRE_HOME": str(home)}


class Runner:
    """A running `certwire up`, and what it prints."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.output = home.with_suffix(".out")
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUNNER],
                cwd=ROOT,
                env={**environment(home), **settings},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def said(self, words: str, times: int = 1) -> bool:
        return len(re.findall(words, self.output.read_text())) >= times

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        assert eventually(condition, seconds), self.output.read_text()

    def wait_ready(self, times: int = 1) -> None:
        self.wait_until(lambda: self.said("Ready after", times))

    def pid(self, server: str) -> int:
        return int(json.loads((self.home / "run" / "pids.json").read_text())[server])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Return how many seconds it took until no process was left."""
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        assert eventually(lambda: nobody_left(self.home), 10)
        return time.monotonic() - begun


@contextlib.contextmanager
def running(home: Path, **settings: str) -> Iterator[Runner]:
    runner = Runner(home, **settings)
    try:
        runner.wait_ready()
        yield runner
    finally:
        runner.stop()


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def nobody_left(home: Path) -> bool:
    """Return whether no process of the stack lives: all of them hold this lock."""
    with (home / "run" / "children.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def ports(home: Path, *names: str) -> Mapping[str, int]:
    return {name: port for name, port in read_ports(home).items() if name in names}


def test_it_starts_once_a_home_and_stops_in_time_however_often_it_is_asked(home: Path) -> None:
    with running(home) as runner:
        assert runner.said(r"https://localhost:\d+")
        assert answers(read_ports(home)["postgres"])
        assert answers(read_ports(home)["nats"], b"INFO")

        second = Runner(home)
        assert second.process.wait(20) == 1
        assert second.said(rf"already runs in \S+ \(process {runner.process.pid}\)")
        assert runner.process.poll() is None

        runner.process.send_signal(signal.SIGHUP)  # the terminal was closed
        for _ in range(4):
            runner.process.send_signal(signal.SIGINT)
        assert runner.stop(signal.SIGINT) < 5
        assert runner.process.returncode == 0


def test_killed_servers_come_back_and_lost_streams_are_made_again(home: Path) -> None:
    streams = home / "nats" / "store" / "jetstream" / "STREAMS" / "streams"
    with running(home) as runner:
        os.kill(runner.pid("postgres"), signal.SIGKILL)
        runner.wait_until(lambda: runner.said("postgres is back"))
        assert (streams / "EVENTS").is_dir()
        shutil.rmtree(streams)
        os.kill(runner.pid("nats"), signal.SIGKILL)
        runner.wait_until(lambda: runner.said("nats is back"))
        runner.wait_until((streams / "EVENTS").is_dir)


def test_a_killed_runner_leaves_nobody_and_the_next_goes_on(home: Path) -> None:
    with running(home) as runner:
        before = ports(home, "postgres", "nats")
        keys = (home / "secrets" / "kek").read_text()
        assert runner.stop(signal.SIGKILL) < 5
    with running(home) as again:
        again.wait_ready(2)
        assert ports(home, "postgres", "nats") == before
        assert (home / "secrets" / "kek").read_text() == keys


def test_it_ends_with_the_process_that_started_it_where_it_should(home: Path) -> None:
    script = f"{sys.executable} -c '{RUNNER}' > {home}.out & wait"
    variables = {**environment(home), "CERTWIRE_STOP_WITH_PARENT": "1"}
    with subprocess.Popen(["/bin/sh", "-c", script], cwd=ROOT, env=variables) as shell:
        output = home.with_name("home.out")
        ready = eventually(lambda: output.exists() and "Ready" in output.read_text(), 60)
        shell.kill()
    assert ready
    assert eventually(lambda: nobody_left(home), 10)


@pytest.mark.parametrize("variable", ["CERTWIRE_HTTPS_PORT", "CERTWIRE_HTTP_PORT"])
def test_a_busy_port_is_told_with_the_setting_that_changes_it(home: Path, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        runner = Runner(home, **{variable: str(port)})
        assert runner.process.wait(10) == 1
    said = runner.output.read_text()
    assert said == f"certwire: port {port} is in use: set {variable} to another one\n"


def settings(home: Path) -> UpSettings:
    (home / "run").mkdir(parents=True, exist_ok=True)
    return UpSettings(home=home, https_port=free_port(), http_port=free_port())


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*DATABASE_URL, *NATS_URL):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nothing_named")
def test_ports_are_kept_while_they_are_free(home: Path) -> None:
    first = up._choose_ports(settings(home))
    second = up._choose_ports(settings(home))
    assert second["nats"] == first["nats"]
    with socket.create_server(("127.0.0.1", first["postgres"])):
        assert up._choose_ports(settings(home))["postgres"] != first["postgres"]


@pytest.mark.usefixtures("nothing_named")
def test_servers_of_ones_own_are_not_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example/certwire")
    monkeypatch.setenv("NATS_URL", "nats://nats.example:4222")
    chosen = up._choose_ports(settings(home))
    assert not {"postgres", "nats"} & set(chosen)


@pytest.mark.usefixtures("nothing_named")
def test_our_own_servers_of_last_time_are_started(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line has already pointed the settings at them."""
    first = up._choose_ports(settings(home))
    monkeypatch.setenv("DATABASE_URL", f"postgresql://127.0.0.1:{first['postgres']}/certwire")
    assert up._choose_ports(settings(home))["postgres"] == first["postgres"]


@pytest.mark.usefixtures("nothing_named")
def test_a_port_that_was_asked_for_is_not_replaced(home: Path) -> None:
    wanted = settings(home).model_copy(update={"nats_port": free_port()})
    assert up._choose_ports(wanted)["nats"] == wanted.nats_port
    with (
        socket.create_server(("127.0.0.1", wanted.nats_port or 0)),
        pytest.raises(CliError, match="CERTWIRE_NATS_PORT"),
    ):
        up._choose_ports(wanted)


def test_the_ports_file_is_what_the_command_line_reads(home: Path) -> None:
    chosen = up._choose_ports(settings(home))
    assert json.loads((home / "run" / "ports.json").read_text()) == chosen


def test_the_first_line_to_paste_quotes_its_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    line = up._first_curl(Path("/my home/bootstrap"), "https://localhost:1/")
    assert line == (
        "curl --cacert 'my home/bootstrap/ca.crt' --cert 'my home/bootstrap/admin.crt'"
        " --key 'my home/bootstrap/admin.key' https://localhost:1/"
    )
