"""Servers that are programs of others: on free ports, with what they need, gone afterwards."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from services.embedded import die_with_parent

STARTS = 5
"""A port that was free may be taken when the server listens: then it starts again on another."""
READY_SECONDS = 20
POLL_SECONDS = 0.02

ServerT = TypeVar("ServerT")


class NotReadyError(Exception):
    """A server ended, or did not answer as ours."""


def started(words: Sequence[str], log: Path, **variables: str) -> subprocess.Popen[bytes]:
    """Start a program that ends with this one; what it prints goes to the log."""
    with log.open("ab") as output:
        return subprocess.Popen(
            words,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **die_with_parent(signal.SIGKILL),
        )


@contextmanager
def running(
    start: Callable[[Path], tuple[subprocess.Popen[bytes], ServerT]],
    is_ours: Callable[[ServerT], bool],
) -> Iterator[ServerT]:
    """Run a server with a directory of its own, from when `is_ours` until the block ends."""
    with tempfile.TemporaryDirectory(prefix="certwire-test-") as directory:
        process, server = _ready(start, is_ours, Path(directory))
        try:
            yield server
        finally:
            _end(process)


def _ready(
    start: Callable[[Path], tuple[subprocess.Popen[bytes], ServerT]],
    is_ours: Callable[[ServerT], bool],
    directory: Path,
) -> tuple[subprocess.Popen[bytes], ServerT]:
    """Start a server, anew where its ports were taken meanwhile. Raises NotReadyError."""
    for _ in range(STARTS):
        process, server = start(directory)
        deadline = time.monotonic() + READY_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if is_ours(server):
                return process, server
            time.sleep(POLL_SECONDS)
        _end(process)
    raise NotReadyError("\n".join(log.read_text() for log in directory.glob("*.log")))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
