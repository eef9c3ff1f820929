"""Runs every check of the code, several at a time; prints what failed. Exit code 1 if any did."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
LOCK: Final = ROOT / "requirements.lock"


@dataclass(frozen=True)
class Result:
    """How a check went."""

    passed: bool
    output: str
    note: str = ""


def command(*arguments: str) -> Callable[[], Result]:
    """Return a check that passes when the command does."""

    def run() -> Result:
        done = subprocess.run(
            [str(BIN / arguments[0]), *arguments[1:]],
            cwd=ROOT,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Result(done.returncode == 0, done.stdout)

    return run


def audit() -> Result:
    """Look for known vulnerabilities in what we ship, once a day for a lock file."""
    today = datetime.now(UTC).date().isoformat()
    state = f"{hashlib.sha256(LOCK.read_bytes()).hexdigest()} {today}"
    stamp = BIN.parent / ".audited"
    if stamp.is_file() and stamp.read_text() == state:
        return Result(passed=True, output="", note="already done today")
    if not is_audited("certifi==2026.10.18"):
        return Result(passed=True, output="", note="NOT RUN: no vulnerability service answers here")
    result = command("pip-audit", "-r", str(LOCK), "--require-hashes", "--disable-pip")()
    if result.passed:
        stamp.write_text(state)
    return result


def is_audited(requirement: str) -> bool:
    """Return whether the vulnerability service can be asked, tried with one package."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirement)
        file.flush()
        options = ["--no-deps", "--disable-pip", "-f", "json", "--progress-spinner", "off"]
        report = command("pip-audit", "-r", file.name, *options)().output
    try:
        found = json.loads(next(line for line in report.splitlines() if line.startswith("{")))
    except (ValueError, StopIteration):
        return False
    return all("skip_reason" not in dependency for dependency in found["dependencies"])


CHECKS: Final[dict[str, Callable[[], Result]]] = {  # the slow ones first
    "mypy": command("mypy"),
    "pip-audit": audit,
    "lint-imports": command("lint-imports", "--no-cache"),
    "guards": command("python", "tools/guards.py"),
    "dead code": command("python", "tools/dead_code.py"),
    "deptry": command("deptry", "."),
    "codespell": command("codespell"),
    "ruff check": command("ruff", "check"),
    "ruff format": command("ruff", "format", "--check"),
}


def timed(check: Callable[[], Result]) -> tuple[Result, float]:
    """Run a check and say how long it took."""
    begun = time.monotonic()
    return check(), time.monotonic() - begun


def main() -> int:
    """Run all checks; their output is shown only where they fail."""
    failed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {name: pool.submit(timed, check) for name, check in CHECKS.items()}
        for name, future in running.items():
            result, seconds = future.result()
            if not result.passed:
                failed.append(name)
                print(f"----- {name}\n{result.output.rstrip()}\n")
            verdict = "ok" if result.passed else "FAILED"
            print(f"{verdict:6} {name:13} {seconds:5.1f} s  {result.note}".rstrip(), flush=True)
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
