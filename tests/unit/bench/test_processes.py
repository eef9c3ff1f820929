import subprocess
import sys

import pytest

from tests.bench.certwire import part_of
from tests.bench.processes import cpu_of_tree, difference

BUSY = "import time\nwhile time.process_time() < 0.2: pass\n"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BUSY!r}], check=True)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_counts_children_that_have_ended() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        used = cpu_of_tree(parent.pid, lambda argv: "us" if "-c" in argv else "others")
        parent.communicate()
    assert set(used) == {"us"}
    assert 0.2 <= used["us"] < 2


def test_a_group_that_is_new_counts_from_nothing() -> None:
    assert difference({"a": 3.0, "b": 1.0}, {"a": 1.0}) == {"a": 2.0, "b": 1.0}


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["/env/bin/python", "/env/bin/certwire", "run", "issuer", ""], "issuer"),
        (["/env/bin/python", "/env/bin/certwire", "up", ""], "runner"),
        (["/env/bin/nats-server", "-c", "/home/run/nats.conf", ""], "nats"),
        (["/programs/bin/postgres", "-D", "/home/postgres/data", ""], "postgres"),
        (["postgres: issuer certwire 127.0.0.1(5432) idle", ""], "postgres"),
        ([""], "runner"),
    ],
)
def test_knows_the_parts_by_their_command_lines(argv: list[str], part: str) -> None:
    assert part_of(argv) == part
