"""The supervisor with small real children; the stack itself is in test_up."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.cli import supervisor
from services.cli.supervisor import HopelessError, Part, Supervisor

FOREVER = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
ANNOUNCE = "import sys; open(sys.argv[1], 'a').write('x'); "


def python(script: str, *arguments: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-c", script, *arguments]


class Stage:
    """A supervisor, what it said, and a time limit for each wait."""

    def __init__(self, logs: Path, *stages: list[Part]) -> None:
        self.said: list[str] = []
        self.stopping = False
        self.supervisor = Supervisor(
            stages, logs, self.said.append, should_stop=lambda: self.stopping
        )

    def run_until(self, condition: Callable[[], bool], seconds: float = 8) -> None:
        deadline = time.monotonic() + seconds
        self.supervisor.keep_running(lambda: condition() or time.monotonic() > deadline)
        assert condition(), self.said

    def heard(self, words: str) -> bool:
        return any(words in line for line in self.said)


@contextlib.contextmanager
def running(logs: Path, *stages: list[Part]) -> Iterator[Stage]:
    stage = Stage(logs, *stages)
    try:
        stage.supervisor.start()
        yield stage
    finally:
        stage.supervisor.stop()
        assert stage.supervisor.pids() == {}


def test_a_killed_part_is_started_again(tmp_path: Path) -> None:
    part = Part("sleeper", python(FOREVER), is_ready=lambda _pid: True)
    with running(tmp_path, [part]) as stage:
        first = stage.supervisor.pids()["sleeper"]
        os.kill(first, signal.SIGKILL)
        stage.run_until(lambda: stage.supervisor.pids().get("sleeper", first) != first)
        assert stage.heard("sleeper ended with SIGKILL; trying again in 0.2 s")
        stage.run_until(lambda: stage.heard("sleeper is back"))


def test_a_part_that_is_not_sound_is_started_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()

    def command() -> list[str]:
        data.mkdir(exist_ok=True)
        return python(FOREVER)()

    part = Part("keeper", command, is_ready=lambda _pid: True, is_sound=data.is_dir)
    with running(tmp_path, [part]) as stage:
        first = stage.supervisor.pids()["keeper"]
        data.rmdir()
        stage.run_until(lambda: stage.supervisor.pids().get("keeper", first) != first)
        assert stage.heard("keeper lost its data and is started again")
        stage.run_until(lambda: stage.heard("keeper is back"))


def test_delays_double_and_the_last_log_line_is_told(tmp_path: Path) -> None:
    script = "print('no luck'); raise SystemExit(3)"
    with running(tmp_path, [Part("unlucky", python(script))]) as stage:
        stage.run_until(lambda: stage.heard("in 0.8 s"))
    lines = [line for line in stage.said if "ended" in line]
    assert lines[0] == "unlucky ended with exit code 3: no luck; trying again in 0.2 s"
    assert "in 0.4 s" in lines[1]


def test_a_json_log_line_is_told_by_its_message(tmp_path: Path) -> None:
    script = """print('{"message": "no database", "level": "error"}'); raise SystemExit(1)"""
    with running(tmp_path, [Part("service", python(script))]) as stage:
        stage.run_until(lambda: stage.heard("exit code 1: no database"))


def test_what_is_waited_for_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PATIENCE_SECONDS", 0.5)
    script = """print('{"message": "not ready", "missing": ["nats"]}', flush=True); """ + FOREVER
    part = Part("service", python(script), is_ready=lambda _pid: stage.said != [])
    stage = Stage(tmp_path, [part])
    stage.supervisor.start()
    stage.supervisor.stop()
    assert stage.said == ["still waiting for service (not ready: nats)"]


def test_a_stage_waits_until_the_former_is_ready(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    slow = Part(
        "slow",
        python("import time; time.sleep(0.5);" + ANNOUNCE + FOREVER, str(mark)),
        is_ready=lambda _pid: mark.exists(),
    )
    check = "import os, sys, time; sys.exit(not os.path.exists(sys.argv[1]))"
    with running(tmp_path / "logs", [slow], [Part("next", python(check, str(mark)), once=True)]):
        assert not (tmp_path / "logs" / "next.log").read_text()


def test_work_is_done_once_and_again_after_the_part_it_serves(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    server = Part("server", python(FOREVER))
    work = Part("work", python(ANNOUNCE, str(mark)), once=True, again_after=frozenset({"server"}))
    with running(tmp_path / "logs", [server], [work]) as stage:
        assert mark.read_text() == "x"
        os.kill(stage.supervisor.pids()["server"], signal.SIGKILL)
        stage.run_until(lambda: mark.read_text() == "xx")


def test_a_part_that_never_starts_is_given_up(tmp_path: Path) -> None:
    never = Part("never", python("raise SystemExit('no such file')"), is_ready=lambda _pid: False)
    given_up = pytest.raises(HopelessError, match=r"never can't be started; .*never\.log")
    with given_up, running(tmp_path, [never], [Part("later", python(FOREVER))]):
        pass
    assert not (tmp_path / "later.log").exists()


def test_a_missing_program_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(HopelessError), running(tmp_path, [Part("x", lambda: ["/no/such"])]):
        pass


def test_a_deaf_part_is_killed_and_all_stop_in_time(tmp_path: Path) -> None:
    heard = [tmp_path / "one", tmp_path / "two"]
    deaf = [Part(mark.name, python(DEAF + ANNOUNCE + FOREVER, str(mark))) for mark in heard]
    with running(tmp_path / "logs", [deaf[0]], deaf[1:]) as stage:
        stage.run_until(lambda: all(mark.exists() for mark in heard))
        begun = time.monotonic()
        stage.supervisor.stop()
        assert time.monotonic() - begun < 5


def test_the_last_stage_stops_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    script = """
import signal, sys, time
def end(*_):
    open(sys.argv[1], "a").write(sys.argv[2])
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + sys.argv[2], "w")
time.sleep(60)
"""

    def part(name: str) -> Part:
        mark = Path(f"{order}{name}")
        return Part(name, python(script, str(order), name), is_ready=lambda _pid: mark.exists())

    with running(tmp_path / "logs", *([part(name)] for name in "abc")):
        pass
    assert order.read_text() == "cba"


def test_a_stop_while_starting_ends_the_start(tmp_path: Path) -> None:
    waiting = Part("waiting", python(FOREVER), is_ready=lambda _pid: False)
    stage = Stage(tmp_path, [waiting], [Part("later", python(FOREVER))])
    stage.stopping = True
    stage.supervisor.start()
    stage.supervisor.stop()
    assert not (tmp_path / "later.log").exists()


def test_a_long_log_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 10_000)
    script = "import time\nwhile True: print('line', flush=True); time.sleep(0.00001)"
    with running(tmp_path, [Part("chatty", python(script))]) as stage:
        stage.run_until((tmp_path / "chatty.log.1").exists)
        stage.run_until(lambda: 0 < (tmp_path / "chatty.log").stat().st_size < 100_000)
    assert (tmp_path / "chatty.log").stat().st_mode & 0o777 == 0o600
