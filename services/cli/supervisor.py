"""Keeps child processes running: in order, with back-off, and all gone at the end.

One thread and no event loop, for children die with the *thread* that started them.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.embedded import ParentWatch, PopenOptions, UnavailableError, die_with_parent

FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 10.0
STEADY_SECONDS: Final = 10.0  # a part that ran this long starts with the first delay again
HOPELESS_FAILURES: Final = 4  # in a row, of a part that never was ready: a start is given up
PATIENCE_SECONDS: Final = 10.0  # then a person is told what is waited for
STOP_SECONDS: Final = 4.0  # everything is gone by then, killed where it must be
POLL_SECONDS: Final = 0.05
ASK_SECONDS: Final = 0.2  # between two questions whether a part is ready
LOG_BYTES: Final = 20_000_000


def killed_with_us() -> PopenOptions:
    """Return the options of a part that needs no farewell: a killed supervisor takes it along."""
    return die_with_parent(signal.SIGKILL)


@dataclass(frozen=True)
class Part:
    """One child process, described."""

    name: str
    command: Callable[[], Sequence[str]]
    """Called before each start, so it may prepare things. May raise UnavailableError."""
    options: Callable[[], PopenOptions] = killed_with_us
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to our own."""
    is_ready: Callable[[int], bool] | None = None
    """Asked with the process id until it is; without it, a started part counts as ready."""
    is_sound: Callable[[], bool] | None = None
    """Asked now and then once it is ready; a part that is not sound is killed and started again."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 2.5
    """How long it may take to stop."""
    once: bool = False
    """It has done its work, and is ready, when it ends with 0."""
    again_after: frozenset[str] = frozenset()
    """Work that needs these parts, and is done once more whenever one of them came back."""


class HopelessError(Exception):
    """A part that can't be started; the message names its log."""


class _Child:
    """A part's process, over all its lives."""

    def __init__(self, part: Part, log: Path, say: Callable[[str], None]) -> None:
        self.part = part
        self.log = log
        self.ready = False
        self.was_ready = False
        self.failures = 0
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: ParentWatch | None = None
        self._due = 0.0
        self._started = 0.0
        self._ask_at = 0.0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def step(self, now: float, inherited: Sequence[int]) -> None:
        """Do what is to be done now: start, notice the end, notice readiness."""
        if self._process is None:
            if now >= self._due and not (self.part.once and self.ready):
                self._start(now, inherited)
        elif (code := self._process.poll()) is not None:
            self._ended(code, now)
        elif not self.ready and self.part.is_ready is not None:
            if now >= self._ask_at and self.part.is_ready(self._process.pid):
                self._became_ready(now)
            elif now >= self._ask_at:
                self._ask_at = now + ASK_SECONDS
        else:
            if now - self._started > STEADY_SECONDS:
                self.failures = 0
            self._check_soundness(now)

    def again(self) -> None:
        """Let a part that works once work again."""
        self.ready = False

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.alive:
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    def forget(self) -> None:
        """Reap the process, which has ended or been killed."""
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._watch is not None:
            self._watch.release()
            self._watch = None
        if not self.part.once:
            self.ready = False

    def rotate(self) -> None:
        """Keep the log and one older one; the process goes on writing to the same file."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    def last_words(self) -> str:
        """Return the last line of the log, for a person."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").split("\n")
        line = next((line for line in reversed(lines) if line.strip()), "")
        try:
            record = json.loads(line)
            return ": ".join([record["message"], *record.get("missing", ())])
        except (ValueError, TypeError, KeyError):  # not one of our own lines
            return line

    def _start(self, now: float, inherited: Sequence[int]) -> None:
        self._started = now
        try:
            command, options = self.part.command(), self.part.options()
            descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self.part.environment},
                    pass_fds=inherited,
                    **options,
                )
        except (UnavailableError, OSError) as error:
            self._failed(f"can't be started: {error}", now)
            return
        if sys.platform != "linux":
            self._watch = ParentWatch(self._process.pid, self.part.stop_signal)
        if self.part.is_ready is None and not self.part.once:
            self.ready = self.was_ready = True

    def _check_soundness(self, now: float) -> None:
        if self.part.is_sound is None or now < self._ask_at:
            return
        self._ask_at = now + ASK_SECONDS
        if not self.part.is_sound():
            self._say(f"{self.part.name} lost its data and is started again")
            self.signal(signal.SIGKILL)

    def _ended(self, code: int, now: float) -> None:
        self.forget()
        if self.part.once and code == 0:
            self._became_ready(now)
            return
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        words = self.last_words() if code >= 0 else ""
        self._failed(f"ended with {how}{': ' if words else ''}{words}", now)

    def _became_ready(self, now: float) -> None:
        if self.was_ready and self.failures:
            self._say(f"{self.part.name} is back ({now - self._started:.1f} s)")
        self.ready = self.was_ready = True

    def _failed(self, what: str, now: float) -> None:
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**self.failures)
        self.failures += 1
        self._due = now + delay
        self._say(f"{self.part.name} {what}; trying again in {delay:g} s")


class Supervisor:
    """Starts the stages one after the other, each when all parts of the former are ready."""

    def __init__(
        self,
        stages: Sequence[Sequence[Part]],
        logs: Path,
        say: Callable[[str], None],
        *,
        should_stop: Callable[[], bool],
        inherited: Sequence[int] = (),
        pids_file: Path | None = None,
    ) -> None:
        """`inherited` are file descriptors that all children keep open: a lock, say.

        `pids_file` gets the process ids by name, for tools and tests.
        """
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._stages = [
            [_Child(part, logs / f"{part.name}.log", say) for part in stage] for stage in stages
        ]
        self._say = say
        self._inherited = inherited
        self._should_stop = should_stop
        self._begun = 0  # stages
        self._pids_file = pids_file
        self._written_pids: dict[str, int] = {}

    def start(self) -> None:
        """Return once all parts are ready, or a stop was asked for. Raises HopelessError."""
        for stage in self._stages:
            self._begun += 1
            told = time.monotonic()
            while missing := [child for child in stage if not child.ready]:
                if self._should_stop():
                    return
                self._step()
                for child in missing:
                    if child.failures >= HOPELESS_FAILURES and not child.was_ready:
                        message = f"{child.part.name} can't be started; its log is {child.log}"
                        raise HopelessError(message)
                if time.monotonic() - told > PATIENCE_SECONDS:
                    told = time.monotonic()
                    for child in missing:
                        self._say(f"still waiting for {child.part.name} ({child.last_words()})")

    def keep_running(self, until: Callable[[], bool] = lambda: False) -> None:
        """Start whatever ends again, until a stop is asked for or `until` says so."""
        while not self._should_stop() and not until():
            self._step()

    def stop(self) -> None:
        """End all parts, the last stage first, in under five seconds."""
        deadline = time.monotonic() + STOP_SECONDS
        for stage in reversed(self._stages[: self._begun]):
            self._stop_stage(stage, deadline)
        self._write_pids()

    def pids(self) -> dict[str, int]:
        """Return the process id of each part that runs."""
        children = [child for stage in self._stages for child in stage]
        return {child.part.name: child.pid for child in children if child.pid is not None}

    def _step(self) -> None:
        now = time.monotonic()
        for stage in self._stages[: self._begun]:
            for child in stage:
                if not child.alive and not self._may_start(child):
                    continue
                before = child.ready
                child.step(now, self._inherited)
                child.rotate()
                if child.ready and not before:
                    self._came_up(child)
        self._write_pids()
        time.sleep(POLL_SECONDS)

    def _may_start(self, child: _Child) -> bool:
        ready = {other.part.name for stage in self._stages for other in stage if other.ready}
        return child.part.again_after <= ready

    def _write_pids(self) -> None:
        pids = self.pids()
        if self._pids_file and pids != self._written_pids:
            partial = self._pids_file.with_suffix(".partial")
            partial.write_text(json.dumps(pids, indent=2) + "\n")
            partial.replace(self._pids_file)
            self._written_pids = pids

    def _came_up(self, child: _Child) -> None:
        for stage in self._stages[: self._begun]:
            for other in stage:
                if child.part.name in other.part.again_after:
                    other.again()

    def _stop_stage(self, stage: Sequence[_Child], deadline: float) -> None:
        for child in stage:
            child.signal(child.part.stop_signal)
        grace = max((child.part.grace_seconds for child in stage), default=0)
        latest = min(time.monotonic() + grace, deadline)
        while any(child.alive for child in stage) and time.monotonic() < latest:
            time.sleep(0.01)
        for child in stage:
            child.signal(signal.SIGKILL)
            child.forget()
