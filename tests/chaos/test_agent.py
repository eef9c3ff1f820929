"""`certwire agent` in trouble: lost replies, kills, full disks, hooks that fail, two at once.

Whatever happens, key and certificate on the disk belong together, and are good for the platform.
"""

import asyncio
import contextlib
import json
import re
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.eventually import eventually
from tests.support.joined import renew_in
from tests.support.killed import killed_at
from tests.support.lossy import Loss, Way
from tests.support.machines import (
    FAILED,
    KINDS,
    PATIENCE_SECONDS,
    RENEWED,
    Machine,
    NewMachine,
    has_one_certificate,
    hasty_platform,
    new_instance,
)
from tests.support.platform import Platform

STOP_SECONDS = 5
both_kinds = pytest.mark.parametrize("new", KINDS, ids=["agent", "instance"])


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with hasty_platform() as platform:
        yield platform


@pytest.fixture
async def machine(
    new: NewMachine, platform: Platform, admin: Client, way: Way, tmp_path: Path
) -> AsyncIterator[Machine]:
    """Return a machine that has joined."""
    machine = await new(admin, platform, way, tmp_path)
    done = await machine.join()
    assert done.code == 0, done
    assert await machine.is_accepted()
    yield machine
    await machine.stop(signal.SIGKILL)


def holds(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    """Return a condition as `eventually` asks for it."""

    async def ask() -> bool:
        return condition()

    return ask


async def begins_to_renew(machine: Machine) -> None:
    """Let it ask for a renewal in vain, so that it is the first thing it does when it runs."""
    machine.way.losses.append(Loss.REQUEST)
    done = await machine.certwire("renew")
    assert (done.code, done.out) == (1, ""), done


# --- What is lost ---------------------------------------------------------------------------------


@both_kinds
async def test_a_lost_reply_costs_no_token_and_no_certificate(
    new: NewMachine, platform: Platform, admin: Client, way: Way, tmp_path: Path
) -> None:
    machine = await new(admin, platform, way, tmp_path)
    way.losses = [Loss.REQUEST, Loss.REPLY, Loss.HALF_OF_THE_REPLY]
    done = await machine.join()
    assert done.code == 0, done
    assert not way.losses
    assert await machine.signed() == [machine.fingerprint]
    assert await machine.is_accepted()

    first = machine.fingerprint
    for loss in (Loss.REPLY, Loss.HALF_OF_THE_REPLY):  # signed with the first, lost again
        way.losses = [loss]
        assert (await machine.certwire("renew")).code == 1
        assert machine.fingerprint == first
        assert await machine.is_safe()
    done = await machine.certwire("run", "--once")
    assert done.code == 0, done
    assert await machine.is_accepted()
    assert sorted(await machine.signed()) == sorted([first, machine.fingerprint])
    await has_one_certificate(machine)


@both_kinds
async def test_a_machine_killed_while_it_joins_joins_with_the_same_token(
    new: NewMachine, platform: Platform, admin: Client, way: Way, tmp_path: Path
) -> None:
    machine = await new(admin, platform, way, tmp_path)
    way.losses = [Loss.DELAY]
    joining = asyncio.create_task(machine.join())
    await eventually(holds(lambda: bool(way.lost)), "it is answered", seconds=PATIENCE_SECONDS)
    joining.cancel()  # which kills it
    with contextlib.suppress(asyncio.CancelledError):
        await joining
    assert not (machine.path / "current").exists()
    done = await machine.join()
    assert done.code == 0, done
    assert await machine.signed() == [machine.fingerprint]
    assert await machine.is_accepted()


# --- Kills ----------------------------------------------------------------------------------------


@both_kinds
async def test_a_renewal_killed_at_any_step_is_finished_by_the_next(machine: Machine) -> None:
    """Between key and certificate, and everywhere else where a file is touched."""
    step = 0
    while True:
        step += 1
        killed = await asyncio.to_thread(killed_at, step, machine.path, renew_in, machine.path)
        assert await machine.is_safe(), step
        if not killed:
            break
        await asyncio.to_thread(renew_in, machine.path)
        assert await machine.is_accepted(), step
    assert step > 30
    await has_one_certificate(machine)


# --- A full disk ----------------------------------------------------------------------------------


def without_room_for_a_byte(_path: Path) -> contextlib.AbstractContextManager[tuple[str, ...]]:
    """Return what runs a command that cannot make any file longer."""
    return contextlib.nullcontext(("bash", "-c", 'ulimit -f 0; exec "$@"', "bash"))


@contextlib.contextmanager
def on_a_full_disk(path: Path) -> Iterator[tuple[str, ...]]:
    """Fill the file system on which the machine's files are."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x")
    try:
        yield ()
    finally:
        filler.unlink()


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """Mount a file system of a few pages."""
    path.mkdir()
    words = ("mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(path))
    mounted = subprocess.run(words, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("signed", [False, True], ids=["not asked", "signed"])
@both_kinds
async def test_without_room_the_old_pair_stays(machine: Machine, *, signed: bool) -> None:
    await stays_and_renews_when_there_is_room(machine, without_room_for_a_byte, signed=signed)


@pytest.mark.parametrize("signed", [False, True], ids=["not asked", "signed"])
@both_kinds
async def test_on_a_full_disk_the_old_pair_stays(
    new: NewMachine,
    platform: Platform,
    admin: Client,
    way: Way,
    tmp_path: Path,
    *,
    signed: bool,
) -> None:
    machine = await new(admin, platform, way, tmp_path)
    with small_disk(machine.path):
        assert (await machine.join()).code == 0
        await stays_and_renews_when_there_is_room(machine, on_a_full_disk, signed=signed)


async def stays_and_renews_when_there_is_room(
    machine: Machine,
    without_room: Callable[[Path], contextlib.AbstractContextManager[tuple[str, ...]]],
    *,
    signed: bool,
) -> None:
    """Renew in vain; where it is `signed`, with a request that is answered at last."""
    before = machine.pair()
    if signed:
        machine.way.losses = [Loss.REPLY]
        assert (await machine.certwire("renew")).code == 1
    with without_room(machine.path) as limit:
        done = await machine.certwire("renew", before=limit)
        assert done.code == 1
        assert "File too large" in done.err or "No space left on device" in done.err
        once = await machine.certwire("run", "--once", before=limit)
        assert once.code == int(signed or machine.workload is not None), once
        assert machine.pair() == before
        assert await machine.is_safe()
    assert (await machine.certwire("renew")).code == 0
    assert machine.pair() != before
    assert await machine.is_accepted()
    assert len(await machine.signed()) == 2


# --- The hook -------------------------------------------------------------------------------------

HOOK = """
import os, shutil, sys
from pathlib import Path
deployed = Path(sys.argv[1])
if not deployed.is_dir():
    sys.exit(3)
for name in ("KEY", "CERTIFICATE"):
    shutil.copy(os.environ[f"CERTWIRE_AGENT_{name}"], deployed / name)
"""


@both_kinds
async def test_a_hook_that_fails_holds_nothing_up_and_runs_when_it_can(
    machine: Machine, tmp_path: Path
) -> None:
    script, deployed = tmp_path / "hook.py", tmp_path / "deployed"
    script.write_text(HOOK)
    hook = shlex.join([*shlex.split("python3 -S"), str(script), str(deployed)])
    await begins_to_renew(machine)
    await machine.run("--hook", hook, "--secrets-interval", "0")
    failed = "could not run the hook: the hook failed with exit code 3"
    await machine.says(failed)
    assert await machine.is_accepted()
    done = await machine.certwire("renew")  # by hand, beside what runs
    assert done.code == 0, done
    assert await machine.is_accepted()
    await machine.says(failed, after=len(machine.said))
    deployed.mkdir()
    await machine.says("the hook has run")
    pair = "".join((deployed / name).read_text() for name in ("CERTIFICATE", "KEY"))
    assert pair == machine.pair()
    assert machine.said.count("the hook has run") == 1


# --- Secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [new_instance], ids=["instance"])
async def test_new_secrets_arrive_whole_and_for_its_eyes_only(
    machine: Machine, admin: Client, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    hook = shlex.join(["sh", "-c", f'cp "$CERTWIRE_AGENT_SECRETS" {seen}'])
    await machine.run("--secrets-interval", "0.2", "--hook", hook)
    for number in range(3):
        secrets = {"api_key": f"{number}", "filler": "x" * 20_000}
        assert (await admin.put_secrets(machine.name, secrets)).status_code == 204

        async def arrived(secrets: object = secrets) -> bool:
            there = machine.directory.secrets.exists()
            return there and machine.secrets() == secrets  # whole, at any time

        await eventually(arrived, "the secrets have arrived", seconds=PATIENCE_SECONDS)

        async def handed_on(secrets: object = secrets) -> bool:
            with contextlib.suppress(FileNotFoundError, ValueError):
                return bool(json.loads(seen.read_text()) == secrets)
            return False

        await eventually(handed_on, "the hook has run", seconds=PATIENCE_SECONDS)
    assert stat.S_IMODE(machine.path.stat().st_mode) == 0o700
    assert "x" * 100 not in machine.said


# --- Stopping, and two at once --------------------------------------------------------------------


async def sleeps(machine: Machine) -> None:
    """It has nothing to do."""
    await begins_to_renew(machine)
    await machine.run("--secrets-interval", "0", "--hook", "true")
    await machine.says("the hook has run")


async def waits_for_an_answer(machine: Machine) -> None:
    """The platform does not answer."""
    await begins_to_renew(machine)
    machine.way.losses = [Loss.DELAY]
    await machine.run()
    await eventually(
        holds(lambda: Loss.DELAY in machine.way.lost), "it waits", seconds=PATIENCE_SECONDS
    )


async def waits_for_its_hook(machine: Machine) -> None:
    """The hook takes its time."""
    await begins_to_renew(machine)
    hook = shlex.join(["sh", "-c", f"echo $$ > {hook_pid(machine)}; exec sleep 1000"])
    await machine.run("--hook", hook)
    await eventually(holds(lambda: hook_runs(machine)), "the hook runs", seconds=PATIENCE_SECONDS)


def hook_pid(machine: Machine) -> Path:
    return machine.path.with_suffix(".pid")


def hook_runs(machine: Machine) -> bool:
    try:
        pid = int(hook_pid(machine).read_text())
        status = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return False
    return "(sleep)" in status and "(sleep) Z" not in status


async def waits_for_another(machine: Machine) -> None:
    """Another process works in the directory."""
    await waits_for_an_answer(machine)
    other = await machine.run()
    blocked = re.compile(rf"-> FLOCK .* {other.pid} ")
    locks = Path("/proc/locks")
    await eventually(
        holds(lambda: bool(blocked.search(locks.read_text()))),
        "the other waits",
        seconds=PATIENCE_SECONDS,
    )


@pytest.mark.parametrize(
    "state",
    [sleeps, waits_for_an_answer, waits_for_its_hook, waits_for_another],
    ids=lambda state: state.__name__,
)
@both_kinds
async def test_it_stops_at_once(
    machine: Machine, state: Callable[[Machine], Awaitable[None]]
) -> None:
    await state(machine)
    begun = time.monotonic()
    codes = await machine.stop()
    assert time.monotonic() - begun < STOP_SECONDS
    assert set(codes) == {0}
    assert await machine.is_safe()
    await eventually(holds(lambda: not hook_runs(machine)), "the hook ends", seconds=STOP_SECONDS)


@both_kinds
async def test_two_on_one_directory_renew_once(machine: Machine) -> None:
    await begins_to_renew(machine)
    for _ in range(3):
        await machine.run("--secrets-interval", "0")
    await machine.says(RENEWED)
    await asyncio.sleep(1)
    assert machine.said.count(RENEWED) == 1
    assert FAILED not in machine.said
    assert await machine.is_accepted()
    assert len(await machine.signed()) == 2
