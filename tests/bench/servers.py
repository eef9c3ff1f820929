"""Child processes of the benchmark: started so that they die with it, and always stopped."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.embedded import die_with_parent

STOP_SECONDS = 15


class ServerError(Exception):
    """A server did not start or answer as it should; the text is for the person at the terminal."""


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    environment: dict[str, str] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process while the block runs; then the signal, and SIGKILL if that does not help."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            **die_with_parent(stop_signal),
        )
        try:
            yield process
        finally:
            process.send_signal(stop_signal)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def log_tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
