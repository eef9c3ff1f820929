"""`python -m tests.bench`: Certwire beside OpenBao, round after round, and a table.

Renewals, CSRs of users, revocations, OCSP responses, CRLs: one after the other, each with servers
of its own; `--work` picks some.

Exit code 1: an answer outside 2xx, or a platform that does not hold exactly what its clients got.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from tests.bench import report
from tests.bench.certwire import certwire
from tests.bench.load import Run, TooSlowError, drive
from tests.bench.openbao import openbao
from tests.bench.processes import CpuTimes, difference
from tests.bench.servers import Measured, ServerError
from tests.bench.summary import Segment
from tests.bench.work import Storage, Work, variants

ROUNDS = 3
WARM_UP = 64
WARM_UP_CONNECTIONS = 16
SEGMENT_LIMIT_SECONDS = 60.0
SHARE_OF_ROUNDS = 0.8  # of the time allowed; the rest is for starting, checking and stopping
SHOWN_ERRORS = 3
QUICK_ROUNDS = 1
QUICK_SHARE = 3
"""What a quick run leaves of the rounds, and by what it divides each number of requests."""


class OutOfTimeError(KeyboardInterrupt):
    """The whole run took longer than allowed; an event loop would swallow any other exception."""


def main() -> int:
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    signal.signal(signal.SIGALRM, _out_of_time)
    results: dict[Work, _Result] = {}
    for work in options.work:
        try:
            results[work] = _bench(work, options)
        except (OutOfTimeError, ServerError, TooSlowError) as error:
            _say(f"{work}: {error}")
        except KeyboardInterrupt:
            _say("stopped")
            return 130
    if options.json:
        content = {work: result.json for work, result in results.items()}
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    good = all(work in results and results[work].good for work in options.work)
    return 0 if good else 1


@dataclass(frozen=True)
class _Result:
    """Of one kind of work."""

    json: dict[str, Any]
    good: bool


def _bench(work: Work, options: argparse.Namespace) -> _Result:
    signal.alarm(options.limit_seconds)
    load_before = os.getloadavg()[0]
    with ExitStack() as stack:
        stack.callback(signal.alarm, 0)
        directory = stack.enter_context(_temporary_directory(options.directory))
        servers: list[Measured] = []
        if options.only != report.OPENBAO:
            _say(f"{work}: starting Certwire …")
            stack_of_ours = certwire(directory / "certwire", options.home, work)
            servers.append(stack.enter_context(stack_of_ours))
        if options.only != report.CERTWIRE:
            for number, variant in enumerate(variants(work, options.storage)):
                _say(f"{work}: starting {variant.name} …")
                server = openbao(directory / f"openbao-{number}", variant, work)
                servers.append(stack.enter_context(server))
        bench = _Bench(servers, keep_alive=work.keeps_connections)
        bench.round(0, [WARM_UP_CONNECTIONS], WARM_UP)
        bench.segments.clear()
        count = options.count or work.requests // (QUICK_SHARE if options.quick else 1)
        rounds = _measure_rounds(bench, options, count)
        load = f"{load_before:.1f} before, {os.getloadavg()[0]:.1f} after"
        facts = {
            "work": str(work),
            **_facts(directory, servers),
            "load": f"{count} requests a segment, {rounds} rounds in alternation",
            "load average of the machine": load,
        }
        sys.stdout.write(report.text(bench.segments, facts, work.unit) + "\n\n")
        found = bench.discrepancies()
        checked = ", ".join(f"{name} {len(told)}" for name, told in bench.serials.items())
        sys.stdout.write(f"Answers checked: {checked}; {len(found)} differences.\n\n")
        sys.stdout.writelines(f"{line}\n" for line in found)
        sys.stdout.flush()
        content = {**report.json_report(bench.segments, facts), "discrepancies": found}
        return _Result(content, good=not found and not bench.errors)


def _measure_rounds(bench: "_Bench", options: argparse.Namespace, count: int) -> int:
    """Measure as many of the rounds as there is time for; return how many."""
    start = time.monotonic()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    for done in range(rounds):
        spent = time.monotonic() - start
        if done and spent * (done + 1) / done > options.limit_seconds * SHARE_OF_ROUNDS:
            _say(f"time for {done} rounds only: --limit-seconds allows more")
            return done
        bench.round(done + 1, options.connections, count)
    return rounds


class _Bench:
    """The measured segments, and the serial of every certificate that a client was told of."""

    def __init__(self, servers: Sequence[Measured], *, keep_alive: bool) -> None:
        self.servers = servers
        self.keep_alive = keep_alive
        self.segments: list[Segment] = []
        self.serials: dict[str, list[int]] = {server.name: [] for server in servers}
        self.errors = 0

    def round(self, number: int, levels: Sequence[int], count: int) -> None:
        """One segment of each server at each number of connections; they take turns to begin."""
        first = number % len(self.servers)
        for server in self.servers:
            server.prepare(count * len(levels))
        for connections in levels:
            for server in [*self.servers[first:], *self.servers[:first]]:
                self._measure(server, number, connections, count)

    def _measure(self, server: Measured, round_number: int, connections: int, count: int) -> None:
        jobs = server.jobs(count)
        before = self._cpu()
        start = time.perf_counter()
        address = ("127.0.0.1", server.port)
        run = drive(address, jobs, connections, SEGMENT_LIMIT_SECONDS, keep_alive=self.keep_alive)
        good = [sample for sample in run.samples if sample.ok]
        settle_seconds = server.settle()
        took = time.perf_counter() - start
        used = {name: difference(after, before[name]) for name, after in self._cpu().items()}
        bystanders = sum(sum(cpu.values()) for name, cpu in used.items() if name != server.name)
        segment = Segment(
            server=server.name,
            connections=connections,
            round_number=round_number,
            latencies_seconds=[sample.latency_seconds for sample in good],
            errors=len(run.samples) - len(good),
            elapsed_seconds=run.elapsed_seconds,
            settle_seconds=settle_seconds,
            generator_cpu_seconds=run.generator_cpu_seconds,
            cpu_seconds=used[server.name],
            bystander_cores=bystanders / took,
        )
        self.segments.append(segment)
        self._check(server, run)
        _say(
            f"round {round_number}: {server.name} @{connections}: {segment.rate:,.0f}/s"
            f", {segment.errors} errors"
        )

    def discrepancies(self) -> list[str]:
        """Where a server does not hold exactly what its clients were told."""
        return [
            line
            for server in self.servers
            for line in server.discrepancies(self.serials[server.name])
        ]

    def _cpu(self) -> dict[str, CpuTimes]:
        return {server.name: server.cpu() for server in self.servers}

    def _check(self, server: Measured, run: Run) -> None:
        """Every answer is what was asked for; others are errors."""
        bad = [sample for sample in run.samples if not sample.ok]
        self.errors += len(bad)
        for sample in bad[:SHOWN_ERRORS]:
            _say(f"  {server.name}: {sample}")
        for sample in run.samples:
            if sample.reply is None or not sample.ok:
                continue
            try:
                serial = sample.job.check(sample.reply.body)
            except ValueError as error:
                raise ServerError(f"{server.name} answered {sample}: {error}") from error
            self.serials[server.name].append(serial)


@contextmanager
def _temporary_directory(parent: Path) -> Iterator[Path]:
    """A new directory, removed afterwards; not closed, since Postgres may be another user."""
    directory = Path(tempfile.mkdtemp(prefix="certwire-bench-", dir=parent))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _facts(directory: Path, servers: Sequence[Measured]) -> dict[str, str]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "disk": _file_system(directory),
        "python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "servers": ", ".join(f"{server.name} {server.version}" for server in servers),
    }


def _file_system(directory: Path) -> str:
    """Its type, as `stat` says: "durable" means little on tmpfs."""
    command = ["stat", "--file-system", "--format=%T", str(directory)]
    try:
        kind = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        kind = "unknown"
    return f"{kind} ({directory.parent})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    works = list(Work)
    parser.add_argument("--work", type=Work, choices=works, nargs="+", default=works)
    parser.add_argument(
        "--storage", type=Storage, choices=list(Storage), nargs="+", help="of OpenBao"
    )
    parser.add_argument("--rounds", type=_positive, help=f"of each work: {ROUNDS}")
    parser.add_argument("--count", type=_positive, help="requests a segment: some hundred")
    parser.add_argument("--quick", action="store_true", help="one round with a third of each")
    parser.add_argument("--connections", type=_positive, nargs="+", default=[1, 16, 64])
    parser.add_argument("--only", choices=[report.CERTWIRE, report.OPENBAO])
    parser.add_argument("--home", type=Path, help="CERTWIRE_HOME of a stack that runs already")
    parser.add_argument("--directory", type=Path, default=_disk(), help="where the data goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--limit-seconds", type=_positive, default=290, help="for each work")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _disk() -> Path:
    """Return a place that is a disk: /tmp is memory on many machines."""
    disk = Path("/var/tmp")  # noqa: S108 - only the parent of a directory made by mkdtemp
    return disk if os.access(disk, os.W_OK) else Path(tempfile.gettempdir())


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _out_of_time(_signal: int, _frame: FrameType | None) -> None:
    raise OutOfTimeError("the benchmark ran out of time: --limit-seconds allows more")


if __name__ == "__main__":
    sys.exit(main())
