"""`certwire subscriber add` and `remove`, with a real NATS that takes them in."""

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from services.cli.errors import CliError
from services.cli.main import main
from services.cli.operator_access import OperatorAccess
from services.cli.stream_tail import CaughtUp, Start, StreamTail
from services.provisioning.nats import ensure_seeds, users
from services.provisioning.nats.keys import subscribers
from tests.support.servers import NatsServer


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NatsServer]:
    """Run a NATS as `certwire up` would."""
    home = tmp_path / "home"
    ensure_seeds(home / "secrets", users())
    server = NatsServer(home / "nats", home / "secrets")
    await server.start()
    assert server.process
    (home / "run").mkdir()
    (home / "run" / "pids.json").write_text(json.dumps({"nats": server.process.pid}))
    monkeypatch.setenv("CERTWIRE_HOME", str(home))
    monkeypatch.setenv("NATS_URL", server.url)
    monkeypatch.chdir(tmp_path)
    yield server
    server.stop()


async def reads(file: Path) -> bool:
    """Return whether the events can be read with the files of a subscriber."""
    access = OperatorAccess.read(file, None)
    tail = StreamTail(access, "EVENTS", "certwire.events.certificate.*", consumer=access.consumer)
    try:
        async with asyncio.timeout(10), aclosing(tail.follow(Start())) as items:
            return isinstance(await anext(items), CaughtUp)
    except CliError:
        return False


async def becomes(wanted: bool, file: Path) -> None:  # noqa: FBT001 - the outcome
    for _ in range(50):
        if await reads(file) is wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"it does not become {wanted}")


async def test_a_subscriber_reads_the_events_until_it_is_removed(
    server: NatsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "for-edge" / "edge-1.json"
    assert main(["subscriber", "add", "edge-1", "--directory", "for-edge"]) == 0
    out = capsys.readouterr().out
    assert "NATS knows" in out
    assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == {0o600}
    seed = file.with_suffix(".nk").read_text()
    assert seed.strip() not in out
    assert seed.strip() not in file.read_text()
    await becomes(wanted=True, file=file)
    assert main(["subscriber", "remove", "edge-1"]) == 0
    await becomes(wanted=False, file=file)
    assert server.process
    assert server.process.poll() is None


async def test_a_server_elsewhere_has_to_be_told(
    server: NatsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[int] = []
    previous = signal.signal(signal.SIGHUP, lambda number, _: told.append(number))
    try:
        # The process of that number is another one by now.
        (tmp_path / "home" / "run" / "pids.json").write_text(json.dumps({"nats": os.getpid()}))
        for pids in (None, "{", "[]", '{"nats": "x"}'):
            assert main(["subscriber", "add", "edge-1"]) == 0
            assert "nats-server --signal reload" in capsys.readouterr().out
            assert main(["subscriber", "remove", "edge-1"]) == 0
            if pids is not None:
                (tmp_path / "home" / "run" / "pids.json").write_text(pids)
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert not told
    assert server.process


def test_what_cannot_be_is_said(
    server: NatsServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def said(code: int, *words: str) -> str:
        assert main(["subscriber", *words]) == code
        return capsys.readouterr().err

    assert server.process
    assert "can't name a subscriber" in said(2, "add", "issuer")
    assert "can't name a subscriber" in said(2, "add", "../x")
    assert main(["subscriber", "add", "edge-1"]) == 0
    assert "there is a subscriber 'edge-1' already" in said(2, "add", "edge-1")
    assert "there is no subscriber 'edge-2'" in said(1, "remove", "edge-2")
    assert "can't name a subscriber" in said(2, "remove", "../x")
    # Where the files cannot be written there is no subscriber whose key nobody has.
    (tmp_path / "file").touch()
    assert said(1, "add", "edge-2", "--directory", "file")
    assert set(subscribers(tmp_path / "home" / "secrets")) == {"edge-1"}
    monkeypatch.setenv("CERTWIRE_HOME", str(tmp_path / "none"))
    assert "run `certwire init`" in said(1, "add", "edge-2")
