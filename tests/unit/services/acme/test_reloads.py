"""The reload command of a replica: one run for all that wait for it, until it succeeds."""

import asyncio
import shlex
import time
from pathlib import Path

import pytest

from services.acme import reloads as module
from services.acme.reloads import Reloads
from shared.live_directory import RELOAD, reload_due
from shared.operator_command import Ended
from tests.support.eventually import eventually
from tests.support.live import issued, put

DOMAIN = "api.example.com"
DONE = Ended(ok=True)


class Command:
    """A reload command that counts its runs."""

    def __init__(self, directory: Path, body: str = "") -> None:
        self.root = directory / "public"
        self._runs = directory / "runs"
        script = directory / "the command"
        script.write_text(f"#!/bin/sh\necho $$ >> {self._runs}\n{body}\n")
        script.chmod(0o755)
        self.reloads = Reloads(self.root, shlex.quote(str(script)))

    def change(self) -> None:
        put(self.root, issued(DOMAIN), DOMAIN)

    @property
    def pids(self) -> list[str]:
        return self._runs.read_text().split() if self._runs.exists() else []

    def runs_now(self) -> bool:
        return Path("/proc", self.pids[-1]).exists()

    async def has_run(self, times: int) -> None:
        async def did() -> bool:
            return len(self.pids) >= times

        await eventually(did, f"{times} runs")


async def test_it_runs_where_something_has_changed(tmp_path: Path) -> None:
    command = Command(tmp_path, "echo reloaded")
    assert await command.reloads.run() == DONE
    assert not command.pids
    command.change()
    assert await command.reloads.run() == Ended(ok=True, output="reloaded\n")
    assert await command.reloads.run() == DONE
    assert len(command.pids) == 1
    assert reload_due(command.root) is None


async def test_without_a_command_there_is_nothing_to_fail(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.change()
    reloads = Reloads(command.root, None)
    assert await reloads.run() == DONE
    await reloads.keep_up()
    # Once there is one, it is run: it is not known who has read the files meanwhile.
    assert await command.reloads.run() == DONE
    assert len(command.pids) == 1


async def test_those_who_come_while_one_runs_share_the_next(tmp_path: Path) -> None:
    command = Command(tmp_path, "sleep 0.5")
    command.change()
    first = asyncio.create_task(command.reloads.run())
    await command.has_run(1)
    waiting = []
    for _ in range(5):
        command.change()
        waiting.append(asyncio.create_task(command.reloads.run()))
    assert await asyncio.gather(first, *waiting) == [DONE] * 6
    assert len(command.pids) == 2
    assert reload_due(command.root) is None


async def test_those_who_share_a_failure_all_hear_of_it(tmp_path: Path) -> None:
    command = Command(tmp_path, "sleep 0.2; exit 1")
    command.change()
    ended = await asyncio.gather(*(command.reloads.run() for _ in range(3)))
    assert {each.reason for each in ended} == {"failed with exit code 1"}
    assert len(command.pids) == 1


async def test_a_change_is_tried_at_once_though_the_last_one_failed(tmp_path: Path) -> None:
    command = Command(tmp_path, "exit 1")
    command.change()
    assert not (await command.reloads.run()).ok
    for _ in range(3):
        await command.reloads.keep_up()
        await asyncio.sleep(0.05)
    assert len(command.pids) == 1  # its time has not come
    command.change()
    await command.reloads.keep_up()
    await command.has_run(2)


async def test_a_failed_one_is_run_again_after_longer_and_longer_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.1)
    command = Command(tmp_path, "exit 1")
    command.change()
    begun = time.monotonic()
    while len(command.pids) < 4:
        await command.reloads.keep_up()
        await asyncio.sleep(0.01)
    assert time.monotonic() - begun > 0.7  # 0.1 + 0.2 + 0.4
    assert command.reloads.problem == "failed with exit code 1"


async def test_one_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.3)
    command = Command(tmp_path, "sleep 60")
    command.change()
    begun = time.monotonic()
    assert (await command.reloads.run()).reason == "took over 0.3 s"
    assert time.monotonic() - begun < 20
    assert command.reloads.problem == "took over 0.3 s"


async def test_who_does_not_wait_does_not_stop_it(tmp_path: Path) -> None:
    command = Command(tmp_path, f"sleep 0.3; touch {tmp_path}/done")
    command.change()
    waiting = asyncio.create_task(command.reloads.run())
    await command.has_run(1)
    waiting.cancel()
    assert await command.reloads.run() == DONE
    assert (tmp_path / "done").exists()
    assert len(command.pids) == 1


async def test_it_ends_with_the_process(tmp_path: Path) -> None:
    command = Command(tmp_path, "exec sleep 60")
    command.change()
    waiting = asyncio.create_task(command.reloads.run())
    await command.has_run(1)
    assert command.runs_now()
    reloading = command.reloads._running
    assert reloading is not None
    for task in (waiting, reloading):  # as the end of the event loop does
        task.cancel()
    await asyncio.wait([waiting, reloading])

    async def has_ended() -> bool:
        return not command.runs_now()

    await eventually(has_ended, "the end of the command")
    # And it is due still.
    assert reload_due(command.root) is not None


async def test_a_directory_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.change()
    (command.root / RELOAD).unlink()
    (command.root / RELOAD).mkdir()
    ended = await command.reloads.run()
    assert ended == Ended(ok=False, reason="may be needed again: Is a directory")
    await command.reloads.keep_up()
    assert not command.pids
