"""Command lines that the operator configured, such as `systemctl reload nginx`.

There is no shell. A command that takes too long is ended with all that it started.
"""

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypedDict

SECONDS: Final = 60.0
"""How long a command may take: a reload waits for nobody."""
OUTPUT_BYTES: Final = 4096
"""What is kept of what it says: the end, where a failure is explained."""
LOOK_SECONDS: Final = 0.05
"""How often it is looked whether it has ended: what it started may hold its output open."""


class GroupOptions(TypedDict, total=False):
    """Arguments of `subprocess.Popen` that make the command the leader of a process group."""

    start_new_session: bool
    preexec_fn: Callable[[], None]


OWN_GROUP: Final[GroupOptions] = {"start_new_session": True}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. `reason` goes on after its name: `failed with exit code 1`."""

    ok: bool
    reason: str = ""
    output: str = ""


@dataclass
class OperatorCommand:
    """One run of a command line: `start`, then `wait`, which may be called in another thread."""

    line: str
    environment: Mapping[str, str] | None = None
    """None for that of this process."""
    capture: bool = True
    """Whether its output is kept; else it goes where that of this process goes."""
    options: GroupOptions = field(default_factory=lambda: OWN_GROUP)
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    _problem: str = field(default="cannot be run: it was not started", init=False)

    def start(self) -> None:
        """Start it. Where that fails, `wait` says so."""
        try:
            self._process = subprocess.Popen(
                shlex.split(self.line) or [""],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.capture else None,
                stderr=subprocess.STDOUT if self.capture else None,
                **self.options,
            )
        except (OSError, ValueError) as error:
            self._problem = f"cannot be run: {error}"

    def wait(self, seconds: float = SECONDS) -> Ended:
        """Return how it ended; what takes longer is killed."""
        process = self._process
        if process is None:
            return Ended(ok=False, reason=self._problem)
        output = _Output(process)
        try:
            in_time = _ends(process, output, time.monotonic() + seconds)
        finally:  # its time is over, or this process is told to stop
            self.kill()
            process.wait()
            output.close()
        if not in_time:
            return Ended(ok=False, reason=f"took over {seconds:g} s", output=output.text)
        if process.returncode < 0:
            reason = f"was ended by signal {-process.returncode}"
            return Ended(ok=False, reason=reason, output=output.text)
        if process.returncode > 0:
            reason = f"failed with exit code {process.returncode}"
            return Ended(ok=False, reason=reason, output=output.text)
        return Ended(ok=True, output=output.text)

    def kill(self) -> None:
        """End it with all that it started, if it goes on."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class _Output:
    """What a command says, as far as it is kept."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._pipe = process.stdout
        self._kept = b""
        self.is_open = self._pipe is not None

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace")

    def read(self, seconds: float) -> None:
        """Read what comes within that time, no more than a pipe holds."""
        assert self._pipe is not None  # noqa: S101 - it is open
        looking = select.poll()  # `select` ends at 1024 descriptors
        looking.register(self._pipe, select.POLLIN)
        if looking.poll(seconds * 1000):
            read = os.read(self._pipe.fileno(), 65_536)
            self.is_open = bool(read)
            self._kept = (self._kept + read)[-OUTPUT_BYTES:]

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()


def _ends(process: "subprocess.Popen[bytes]", output: _Output, deadline: float) -> bool:
    """Return whether it ends by then."""
    while process.poll() is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if output.is_open:
            output.read(min(left, LOOK_SECONDS))
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(left)
    if output.is_open:
        output.read(0)
    return True
