"""Programs that tests run beside Python's packages; `tools/system-packages.sh` installs them."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

OURS = str(Path(sys.executable).parent)
SEARCHED = os.pathsep.join([OURS, os.environ.get("PATH", ""), "/usr/sbin"])


def path_of(program: str) -> str:
    """Return where a program is; skip the test where it is nowhere, but not in CI."""
    found = shutil.which(program, path=SEARCHED)
    if found is None:
        assert os.environ.get("CI") != "true", f"{program} is missing"
        pytest.skip(f"{program} is missing")
    return found


async def output_of(
    *words: object, seconds: float = 60, cwd: Path | None = None, **variables: str
) -> str:
    """Run a program that has to succeed; return what it printed."""
    code, out = await outcome_of(*words, seconds=seconds, cwd=cwd, **variables)
    assert code == 0, out
    return out


async def outcome_of(
    *words: object, seconds: float = 60, cwd: Path | None = None, **variables: str
) -> tuple[int, str]:
    """Run a program to its end; return its exit code and what it printed."""
    program, *arguments = map(str, words)
    process = await asyncio.create_subprocess_exec(
        path_of(program),
        *arguments,
        cwd=cwd,
        env={**os.environ, **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode()
