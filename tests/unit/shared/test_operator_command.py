"""Command lines that an operator configured: no shell, bounded in time and in what they say."""

import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from shared.operator_command import OUTPUT_BYTES, Ended, OperatorCommand


def run(line: str, seconds: float = 20, *, capture: bool = True) -> Ended:
    command = OperatorCommand(line, capture=capture)
    command.start()
    return command.wait(seconds)


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "a script"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return shlex.quote(str(path))


def has_ended(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_command_that_succeeds(tmp_path: Path) -> None:
    assert run("true") == Ended(ok=True)
    line = script(tmp_path, 'echo "$1:$2"; echo wrong >&2')
    assert run(f"{line} 'a b' c") == Ended(ok=True, output="a b:c\nwrong\n")


def test_there_is_no_shell(tmp_path: Path) -> None:
    ended = run(f"echo $HOME `id` > {tmp_path}/out; exit 1")
    assert ended == Ended(ok=True, output=f"$HOME `id` > {tmp_path}/out; exit 1\n")


def test_it_reads_nothing() -> None:
    assert run("cat") == Ended(ok=True)


def test_it_gets_the_environment_that_it_is_given() -> None:
    command = OperatorCommand("env", {"COLOUR": "red", "PATH": os.environ["PATH"]})
    command.start()
    assert "COLOUR=red\n" in command.wait().output


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    assert run("false") == Ended(ok=False, reason="failed with exit code 1")
    ended = run(script(tmp_path, "echo configuration is broken >&2; exit 3"))
    assert ended == Ended(False, "failed with exit code 3", "configuration is broken\n")
    assert run(script(tmp_path, "kill -9 $$")).reason == "was ended by signal 9"


@pytest.mark.parametrize("line", ["", "  ", "/nowhere/command", "'", "/", "a\0b"])
def test_what_is_no_command_cannot_be_run(line: str) -> None:
    ended = run(line)
    assert not ended.ok
    assert ended.reason.startswith("cannot be run: ")


def test_one_that_was_not_started_has_not_succeeded() -> None:
    assert not OperatorCommand("true").wait().ok


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    line = script(tmp_path, f"echo begun; trap '' TERM; sleep 60 & echo $! > {pid}; wait")
    begun = time.monotonic()
    ended = run(line, 0.5)
    assert ended == Ended(ok=False, reason="took over 0.5 s", output="begun\n")
    assert time.monotonic() - begun < 10
    assert has_ended(int(pid.read_text()))


@pytest.mark.parametrize("capture", [True, False])
def test_a_child_that_stays_is_not_waited_for(tmp_path: Path, capture: bool) -> None:  # noqa: FBT001 - a parameter
    """A server that a command starts keeps its output open."""
    pid = tmp_path / "pid"
    line = script(tmp_path, f"sleep 60 & echo $! > {pid}")
    begun = time.monotonic()
    assert run(line, capture=capture).ok
    assert time.monotonic() - begun < 10
    left = int(pid.read_text())
    assert not Path(f"/proc/{left}/stat").read_text().rpartition(")")[2].startswith(" Z")
    os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("closed", ["exec >&- 2>&-;", ""])
def test_one_that_closes_its_output_is_waited_for(tmp_path: Path, closed: str) -> None:
    done = tmp_path / "done"
    assert run(script(tmp_path, f"{closed} sleep 0.3; touch {done}")).ok
    assert done.exists()


def test_what_it_says_is_bounded(tmp_path: Path) -> None:
    line = script(
        tmp_path, f"{sys.executable} -c 'print(\"x\" * 10_000_000)'; echo the end; exit 1"
    )
    ended = run(line)
    assert ended.reason == "failed with exit code 1"
    assert len(ended.output) == OUTPUT_BYTES
    assert ended.output.endswith("x\nthe end\n")
    ended = run("cat /dev/zero", 0.5)
    assert ended.reason == "took over 0.5 s"
    assert run(script(tmp_path, r"printf '\377'")).output == "\N{REPLACEMENT CHARACTER}"


def test_without_capturing_it_says_it_itself(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("echo hello", capture=False) == Ended(ok=True)
    assert capfd.readouterr().out == "hello\n"


def test_it_may_be_killed_from_elsewhere(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = OperatorCommand(script(tmp_path, f"sleep 60 & echo $! > {pid}; wait"))
    command.start()
    ended: list[Ended] = []
    waiting = threading.Thread(target=lambda: ended.append(command.wait()))
    waiting.start()
    while not pid.exists() or not pid.read_text():
        time.sleep(0.01)
    command.kill()
    waiting.join(10)
    assert ended == [Ended(ok=False, reason="was ended by signal 9")]
    assert has_ended(int(pid.read_text()))
    command.kill()  # once more does nothing


def test_it_works_with_many_open_files(tmp_path: Path) -> None:
    files = [(tmp_path / str(number)).open("w") for number in range(1100)]
    try:
        assert run("echo hello").output == "hello\n"
    finally:
        for file in files:
            file.close()
