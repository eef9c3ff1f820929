"""A process that makes keys: whatever happens to it, and to its parent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from services.issuer import key_worker
from services.issuer.key_worker import Worker, WorkerError
from tests.support.eventually import eventually

SMALL = 1024  # of no use to anybody, and quick to make
LARGE = 16_384  # takes minutes

PARENT = f"""
import asyncio
from services.issuer.key_worker import Worker

async def main():
    worker = Worker(19)
    making = asyncio.create_task(worker.make({LARGE}))
    while worker.pid is None:
        await asyncio.sleep(0.01)
    print(worker.pid, flush=True)
    await making

asyncio.run(main())
"""


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker(10)
    yield worker
    await worker.close()
    assert worker.pid is None


async def is_at_work(worker: Worker) -> bool:
    return worker.pid is not None


async def is_gone(pid: int) -> bool:
    return not runs(pid)


def runs(pid: int) -> bool:
    """Whether a process is there and not only waited for."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - what is there is no file
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_makes_one_key_after_the_other_in_one_process(worker: Worker) -> None:
    first = await worker.make(SMALL)
    pid = worker.pid
    second = await worker.make(SMALL + 8)
    assert isinstance(first, rsa.RSAPrivateKey)
    assert isinstance(second, rsa.RSAPrivateKey)
    assert (first.key_size, second.key_size) == (SMALL, SMALL + 8)
    assert worker.pid == pid


async def test_gives_way_to_everybody_else(worker: Worker) -> None:
    await worker.make(SMALL)
    assert worker.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) == 10


async def test_is_started_again_after_it_was_killed(worker: Worker) -> None:
    await worker.make(SMALL)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    await asyncio.sleep(0.1)
    key = await worker.make(SMALL)
    assert key.public_key() is not None


async def test_says_so_when_it_is_killed_in_the_middle(worker: Worker) -> None:
    making = asyncio.create_task(worker.make(LARGE))
    await eventually(partial(is_at_work, worker), "it runs")
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerError):
        await making
    await worker.make(SMALL)


async def test_one_that_hangs_is_ended(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    await worker.make(SMALL)
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(key_worker, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(WorkerError):
        await worker.make(SMALL)
    assert not runs(pid)
    monkeypatch.setattr(key_worker, "PATIENCE_SECONDS", 30)
    await worker.make(SMALL)


async def test_the_next_one_does_not_get_the_key_of_one_who_left(worker: Worker) -> None:
    making = asyncio.create_task(worker.make(LARGE))
    await eventually(partial(is_at_work, worker), "it runs")
    pid = worker.pid
    assert pid is not None
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not runs(pid)
    key = await worker.make(SMALL)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == SMALL


async def test_ends_with_a_parent_that_is_killed_in_the_middle_of_a_key() -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - it is killed, and waited for at once
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        await asyncio.sleep(0.5)
        assert runs(pid)
        parent.kill()
    await eventually(partial(is_gone, pid), "the worker is gone")


async def test_it_is_ended_while_somebody_waits(worker: Worker) -> None:
    making = asyncio.create_task(worker.make(LARGE))
    await eventually(partial(is_at_work, worker), "it is at work")
    await worker.close()
    with pytest.raises(WorkerError):
        await making
