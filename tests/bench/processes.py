"""CPU time of a tree of processes, in groups, from Linux's /proc."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

# Group → CPU seconds since its processes started; empty where there is no /proc.
CpuTimes = dict[str, float]
Classify = Callable[[list[str]], str]

PROC = Path("/proc")
# Positions in /proc/<pid>/stat after the command's closing parenthesis (proc_pid_stat(5)).
STAT_PARENT = 1
STAT_WAITED_FOR_TIMES = slice(13, 15)


def cpu_of_tree(root_pid: int, classify: Classify) -> CpuTimes:
    """CPU of this process and its descendants by group; `classify` maps an argv to its group.

    Never shrinks: what ended children have used is counted with the parent that waited for them.
    """
    times: defaultdict[str, float] = defaultdict(float)
    for pid in _tree(root_pid):
        try:
            argv = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
            times[classify(argv)] += _cpu_seconds(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended, and is its parent's now
    return dict(times)


def difference(after: CpuTimes, before: CpuTimes) -> CpuTimes:
    return {group: seconds - before.get(group, 0.0) for group, seconds in after.items()}


def _tree(root_pid: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for path in PROC.glob("[0-9]*"):
        try:
            parent = int(_stat(int(path.name))[STAT_PARENT])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(path.name))
    waiting = [root_pid] if children else []
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, [])


def _cpu_seconds(pid: int) -> float:
    """Its threads by the scheduler's nanoseconds, its ended children by the clock ticks of stat."""
    nanoseconds = sum(
        int(path.read_text().split()[0]) for path in (PROC / str(pid) / "task").glob("*/schedstat")
    )
    ticks = sum(int(field) for field in _stat(pid)[STAT_WAITED_FOR_TIMES])
    return nanoseconds / 1e9 + ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    text = (PROC / str(pid) / "stat").read_text()
    return text[text.rindex(")") + 2 :].split()
