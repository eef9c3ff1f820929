"""Makes .tools/acme2certifier: an ACME server with ARI and profiles, which tests run.

It has an environment of its own, for its versions are none of ours. Does nothing when it is already
what the lock file says. With CI=true it is a failure where that cannot be made.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "tools" / "acme2certifier.lock"
ENVIRONMENT: Final = ROOT / ".tools" / "acme2certifier"
PYTHON: Final = ENVIRONMENT / "bin" / "python"
STAMP: Final = ENVIRONMENT / ".installed"


def is_current() -> bool:
    """Return whether the environment is there and starts (its Python may have been removed)."""
    if not STAMP.is_file() or STAMP.read_text() != LOCK.read_text():
        return False
    try:
        return subprocess.run([PYTHON, "-c", ""], check=False).returncode == 0
    except OSError:
        return False


def install() -> None:
    """Make the environment anew. Raises CalledProcessError."""
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(LOCK)], check=True)
    STAMP.write_text(LOCK.read_text())


def main() -> int:
    """Make the environment where it is not there."""
    if is_current():
        return 0
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with (ENVIRONMENT.parent / "acme2certifier.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two `make` at once: the second finds it done
        if is_current():
            return 0
        print("Installing acme2certifier into .tools ...", file=sys.stderr)
        try:
            install()
        except subprocess.CalledProcessError:
            print("acme2certifier is missing; what pip said stands above.", file=sys.stderr)
            return 1 if os.environ.get("CI") == "true" else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
