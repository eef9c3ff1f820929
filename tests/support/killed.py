"""A process that is killed at a chosen step of its work on files."""

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

FILE_EVENTS: Final = frozenset(
    {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"}
)
"""Of Python's audit events: every change of a directory passes by one of them."""
_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.support.joined", "tests.support.killed", "tests.support.live", "tests.support.watching"]
)


def killed_at(step: int, below: Path, work: Callable[..., object], *arguments: Any) -> bool:  # noqa: ANN401 - of any function
    """Do the work in a process that dies before its nth step; return whether it came so far."""
    process = _CONTEXT.Process(target=_die_at, args=(step, below, work, *arguments))
    process.start()
    process.join(30)
    assert process.exitcode in {0, -signal.SIGKILL}, process.exitcode
    return process.exitcode != 0


def without_room(work: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401 - of any function
    """Do the work in a process in which every write to a file fails."""
    process = _CONTEXT.Process(target=_fail_to_write, args=(work, *arguments))
    process.start()
    process.join(30)
    assert process.exitcode == 0, process.exitcode


def _die_at(step: int, below: Path, work: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401 - of any function
    steps = 0

    def count(event: str, details: tuple[Any, ...]) -> None:
        nonlocal steps
        changes = event in FILE_EVENTS or (event == "open" and details[2] & os.O_ACCMODE)
        if changes and _is_below(details[0], below):
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    work(*arguments)


def _is_below(path: Any, directory: Path) -> bool:  # noqa: ANN401 - whatever `open` takes
    """Return whether a path is in a directory; a relative one is in one that the work opened."""
    if isinstance(path, int):  # a file that is open already
        return False
    found = Path(os.fsdecode(path))
    return not found.is_absolute() or found.is_relative_to(directory)


def _fail_to_write(work: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401 - of any function
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        work(*arguments)
    except OSError:
        return
    raise AssertionError("it wrote nothing")
