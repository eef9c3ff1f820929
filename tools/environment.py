"""Makes .venv from a lock file; does nothing when it is already what the lock file says.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
LOCKS = {"runtime": ROOT / "requirements.lock", "dev": ROOT / "requirements-dev.lock"}


def fingerprint(kind: str) -> str:
    """What the environment was made from: it is stale when this changes."""
    content = LOCKS[kind].read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    return hashlib.sha256(content + str(ROOT).encode()).hexdigest()


def stamp(kind: str) -> Path:
    return ENVIRONMENT / f".installed-{kind}"


def is_current(kind: str) -> bool:
    return stamp(kind).is_file() and stamp(kind).read_text() == fingerprint(kind) and has_python()


def has_python() -> bool:
    """Whether the environment's interpreter still starts (its Python may have been removed)."""
    python = ENVIRONMENT / "bin" / "python"
    try:
        return subprocess.run([python, "-c", ""], check=False).returncode == 0
    except OSError:
        return False


def install(kind: str) -> None:
    if not has_python():
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "-qq", "--no-input"]
    pip += ["--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(LOCKS[kind])], check=True)
    # The build backend came with the lock, so nothing more is downloaded.
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], check=True)
    stamp(kind).write_text(fingerprint(kind))


def main() -> int:
    kind = sys.argv[1]
    if is_current(kind):
        return 0
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two `make` at once: the second waits and finds it done
        if is_current(kind):
            return 0
        print(f"Installing {LOCKS[kind].name} into .venv ...", file=sys.stderr)
        os.environ.pop("PYTHONPATH", None)
        try:
            install(kind)
        except subprocess.CalledProcessError:
            print("The installation failed; what pip said stands above.", file=sys.stderr)
            return 1
        if kind == "dev":  # it holds the runtime lock's versions too
            stamp("runtime").write_text(fingerprint("runtime"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
