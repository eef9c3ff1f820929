"""`python -m tests.bench`: Certwire beside OpenBao, round after round, and a table.

Renewals, or with `--work sign-csr` CSRs of users.

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
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from tests.bench import report
from tests.bench.certwire import Certwire, certwire
from tests.bench.keys import check_certificate
from tests.bench.load import Run, TooSlowError, drive
from tests.bench.openbao import OpenBao, openbao
from tests.bench.processes import CpuTimes, difference
from tests.bench.servers import ServerError
from tests.bench.summary import Segment
from tests.bench.work import Work

Server = Certwire | OpenBao

WARM_UP = 64
WARM_UP_CONNECTIONS = 16
SEGMENT_LIMIT_SECONDS = 60.0
SHARE_OF_ROUNDS = 0.8  # of the time allowed; the rest is for starting, checking and stopping
SHOWN_ERRORS = 3


class OutOfTimeError(KeyboardInterrupt):
    """The whole run took longer than allowed; an event loop would swallow any other exception."""


def main() -> int:
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.alarm(options.limit_seconds)
    try:
        return _bench(options)
    except (OutOfTimeError, ServerError, TooSlowError) as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("stopped")
        return 130


def _bench(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        directory = stack.enter_context(_temporary_directory(options.directory))
        servers: list[Server] = []
        if options.only != report.OPENBAO:
            _say("starting Certwire …")
            servers.append(
                stack.enter_context(certwire(directory / "certwire", options.home, options.work))
            )
        if options.only != report.CERTWIRE:
            _say("starting OpenBao …")
            servers.append(stack.enter_context(openbao(directory / "openbao", options.work)))
        bench = _Bench(servers, keep_alive=options.work is Work.SIGN_CSR)
        bench.round(0, [WARM_UP_CONNECTIONS], WARM_UP)
        bench.segments.clear()
        rounds = _measure_rounds(bench, options)
        facts = _facts(options, rounds, directory, servers)
        sys.stdout.write(report.text(bench.segments, facts) + "\n\n")
        found = bench.discrepancies()
        sys.stdout.writelines(f"{line}\n" for line in found)
        if options.json:
            content = {**report.json_report(bench.segments, facts), "discrepancies": found}
            options.json.write_text(json.dumps(content, indent=2) + "\n")
        return 1 if found or bench.errors else 0


def _measure_rounds(bench: "_Bench", options: argparse.Namespace) -> int:
    """Measure as many of the rounds as there is time for; return how many."""
    start = time.monotonic()
    for done in range(options.rounds):
        spent = time.monotonic() - start
        if done and spent * (done + 1) / done > options.limit_seconds * SHARE_OF_ROUNDS:
            _say(f"time for {done} rounds only: --limit-seconds allows more")
            return done
        bench.round(done + 1, options.connections, options.count)
    return int(options.rounds)


class _Bench:
    """The measured segments, and the serial of every certificate that a client got."""

    def __init__(self, servers: Sequence[Server], *, keep_alive: bool) -> None:
        self.servers = servers
        self.keep_alive = keep_alive
        self.segments: list[Segment] = []
        self.serials: dict[str, list[int]] = {server.name: [] for server in servers}
        self.errors = 0

    def round(self, number: int, levels: Sequence[int], count: int) -> None:
        """One segment of each server at each number of connections; they take turns to begin."""
        for server in self.servers:
            server.prepare(count * len(levels))
        for connections in levels:
            for server in self.servers[:: 1 if number % 2 else -1]:
                self._measure(server, number, connections, count)

    def _measure(self, server: Server, round_number: int, connections: int, count: int) -> None:
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
        """Where a server does not hold exactly the certificates that its clients got."""
        return [
            line
            for server in self.servers
            for line in server.discrepancies(self.serials[server.name])
        ]

    def _cpu(self) -> dict[str, CpuTimes]:
        return {server.name: server.cpu() for server in self.servers}

    def _check(self, server: Server, run: Run) -> None:
        """Every certificate is for its key, and new; every other answer is an error."""
        bad = [sample for sample in run.samples if not sample.ok]
        self.errors += len(bad)
        for sample in bad[:SHOWN_ERRORS]:
            _say(f"  {server.name}: {sample}")
        for sample in run.samples:
            if sample.reply is None or not sample.ok:
                continue
            try:
                pem = server.certificate_pem(sample.reply.body)
                serial = check_certificate(pem, sample.job.key, server.issuer)
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


def _facts(
    options: argparse.Namespace, rounds: int, directory: Path, servers: Sequence[Server]
) -> dict[str, str]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "disk": _file_system(directory),
        "python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "servers": ", ".join(f"{server.name} {server.version}" for server in servers),
        "work": str(options.work),
        "load": f"{options.count} certificates a segment, {rounds} rounds in alternation",
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
    parser.add_argument("--work", type=Work, choices=list(Work), default=Work.RENEW)
    parser.add_argument("--rounds", type=_positive, default=5)
    parser.add_argument("--count", type=_positive, default=300, help="certificates a segment")
    parser.add_argument("--connections", type=_positive, nargs="+", default=[1, 16, 64])
    parser.add_argument("--only", choices=[report.CERTWIRE, report.OPENBAO])
    parser.add_argument("--home", type=Path, help="CERTWIRE_HOME of a stack that runs already")
    parser.add_argument("--directory", type=Path, default=_disk(), help="where the data goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--limit-seconds", type=_positive, default=290, help="for the whole run")
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
