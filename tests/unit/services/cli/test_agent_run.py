"""`certwire agent …`, as a person or systemd calls it."""

import asyncio
import json
import re
import shlex
import signal
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.cli.agent_files import AgentDirectory
from services.cli.main import _parser, main
from tests.support.agent_platform import (
    API_KEY,
    DROP,
    INSTANCE,
    TOKEN,
    Deployed,
    FakePlatform,
    serving,
)
from tests.support.authority import Authority
from tests.support.command_line import CommandLine
from tests.support.eventually import eventually
from tests.support.following import Following, has
from tests.support.joined import joined
from tests.support.live import Pair, issued, served, version
from tests.support.watching import ReadNats

SHOP = "shop.example.com"
CALL = re.compile(r"^(?:ExecStart=/usr/local/bin/|\s*)certwire (?:agent|subscriber) ")


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[FakePlatform]:
    with serving(FakePlatform(), tmp_path) as platform:
        yield platform


@pytest.fixture
def line(tmp_path: Path) -> CommandLine:
    return CommandLine.at(tmp_path)


def joining(platform: FakePlatform, tmp_path: Path) -> list[str]:
    ca = platform.write_ca(tmp_path)
    return ["--url", platform.url, "--ca", str(ca), "--token", TOKEN, "--directory", "agent"]


async def test_an_agent_enrols_and_says_what_it_has(
    platform: FakePlatform, line: CommandLine, tmp_path: Path
) -> None:
    words = joining(platform, tmp_path)
    done = await line.run("agent", "enroll", *words, "--label", "other")
    assert (done.code, done.out) == (1, "")
    assert "the token is for 'macbook-pro', not for 'other'" in done.err
    done = await line.run("agent", "enroll", *words, "--label", "macbook-pro")
    assert done.code == 0, done.err
    assert done.out.startswith("enrolled: serial ")
    status = await line.run("agent", "status", "--directory", "agent")
    assert status.code == 0, status.err
    assert f"{platform.current.serial_number:X}" in status.out
    assert "macbook-pro" in status.out
    renewed = await line.run("agent", "renew", "--directory", "agent")
    assert renewed.out.startswith("renewed: serial "), renewed.err
    assert len(platform.issued) == 2


async def test_an_instance_bootstraps(
    platform: FakePlatform, line: CommandLine, tmp_path: Path
) -> None:
    who = ["--instance", INSTANCE, "--wg-public-key", "key", "--vpn-ip", "10.8.0.2"]
    done = await line.run("agent", "bootstrap", *joining(platform, tmp_path), *who)
    assert done.code == 0, done.err
    ((path, body),) = platform.calls
    assert path == f"/internal/v1/instances/{INSTANCE}/cert/bootstrap"
    assert set(body) == {"token", "csr_pem", "wg_public_key"}
    done = await line.run("agent", "run", "--directory", "agent", "--once")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "agent" / "secrets.json").read_text()) == {"api_key": "one"}
    status = await line.run("agent", "status", "--directory", "agent")
    assert f"instance     {INSTANCE}" in status.out


async def test_it_runs_until_it_is_told_to_stop(
    platform: FakePlatform, line: CommandLine, tmp_path: Path
) -> None:
    directory = joined(platform, tmp_path / "agent")
    platform.faults = [DROP, (503, {}, {"Retry-After": "1"})]
    process = await line.start("agent", "run", "--directory", "agent", "--hook", "true")
    assert process.stdout
    async with asyncio.timeout(30):
        said = [(await process.stdout.readline()).decode() for _ in range(4)]
    assert ["could not renew" in one for one in said] == [True, True, False, False]
    assert said[2].startswith("renewed: serial")
    assert said[3] == "the hook has run\n"
    process.terminate()
    assert await process.wait() == 0
    current = directory.current()
    assert current
    assert current.certificate == platform.current


async def test_once_fails_where_something_failed(
    platform: FakePlatform, line: CommandLine, tmp_path: Path
) -> None:
    joined(platform, tmp_path / "agent")
    platform.faults = [DROP]
    done = await line.run("agent", "run", "--directory", "agent", "--once")
    assert done.code == 1
    assert "could not renew" in done.out


def test_without_an_enrolment_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("run", "renew", "status"):
        assert main(["agent", command, "--directory", str(tmp_path)]) == 1
        assert "there is no agent in" in capsys.readouterr().err


def test_a_begun_renewal_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory: AgentDirectory = joined(FakePlatform(), tmp_path / "agent")
    directory.begin("renewal")
    assert main(["agent", "status", "--directory", str(directory.path)]) == 0
    assert "begun, not answered yet" in capsys.readouterr().out


# --- Public certificates of projects -------------------------------------------------------------


def watching(platform: FakePlatform, path: Path, *others: str) -> list[str]:
    """Return the words that watch a project; the API key is in a file of `path`."""
    (path / "api-key").write_text(f"{API_KEY}\n")
    (path / "api-key").chmod(0o600)
    ca = str(platform.write_ca(path))
    words = ["agent", "run", "--directory", "agent", "--watch", "shop", "--live-dir", "public"]
    return [*words, "--url", platform.url, "--ca", ca, "--api-key-file", "api-key", *others]


def deploy(platform: FakePlatform) -> Pair:
    pair = issued(SHOP)
    platform.projects["shop"] = Deployed(SHOP, pair)
    return pair


async def is_served(root: Path, pair: Pair) -> None:
    async def it_is() -> bool:
        return served(root, SHOP) == version(pair)

    await eventually(it_is, "the certificate")


async def test_a_host_that_only_watches(
    platform: FakePlatform, line: CommandLine, tmp_path: Path
) -> None:
    pair = deploy(platform)
    words = watching(platform, tmp_path, "--reload-command", "touch reloaded")
    done = await line.run(*words, "--once")
    assert done.code == 0, (done.out, done.err)
    assert served(tmp_path / "public", SHOP) == version(pair)
    assert (tmp_path / "reloaded").exists()
    status = await line.run("agent", "status", "--directory", "agent")
    assert status.code == 0, status.err
    assert f"watched at   {platform.url}" in status.out
    where = tmp_path / "public" / "live" / SHOP / "fullchain.pem"
    assert f"project      shop: {where}, valid until " in status.out
    assert "label" not in status.out
    platform.projects["shop"] = None
    done = await line.run(*watching(platform, tmp_path, "--reload-command", "false"), "--once")
    assert done.code == 1
    assert "the reload command: failed with exit code 1" in done.out
    status = await line.run("agent", "status", "--directory", "agent")
    assert "project      shop: no certificate, looked at 20" in status.out
    assert "reload       due" in status.out


async def test_an_agent_that_watches_keeps_its_own_certificate_fresh_too(
    platform: FakePlatform, line: CommandLine, tmp_path: Path
) -> None:
    directory = joined(platform, tmp_path / "agent")
    pair = deploy(platform)
    (tmp_path / "api-key").write_text(API_KEY)
    (tmp_path / "api-key").chmod(0o600)
    words = ["agent", "run", "--directory", "agent", "--watch", "shop", "--live-dir", "public"]
    done = await line.run(*words, "--api-key-file", "api-key", "--once")
    assert done.code == 0, (done.out, done.err)
    current = directory.current()
    assert current
    assert current.certificate == platform.current
    assert served(tmp_path / "public", SHOP) == version(pair)
    status = await line.run("agent", "status", "--directory", "agent")
    assert "label        macbook-pro" in status.out
    assert "project      shop: " in status.out


async def test_an_expired_certificate_of_a_project_is_an_exit_code(
    platform: FakePlatform, tmp_path: Path, line: CommandLine
) -> None:
    leaf = Authority().server(SHOP, lifetime=timedelta(seconds=1))
    key, _, chain = leaf.pem.partition("-----END PRIVATE KEY-----\n")
    pair = Pair(chain, f"{key}-----END PRIVATE KEY-----\n", leaf.sha256)
    platform.projects["shop"] = Deployed(SHOP, pair)
    done = await line.run(*watching(platform, tmp_path), "--once")
    assert done.code == 0, (done.out, done.err)
    await asyncio.sleep(1)
    status = await line.run("agent", "status", "--directory", "agent")
    assert status.code == 1
    assert "EXPIRED on" in status.out


async def test_it_watches_until_it_is_told_to_stop(
    platform: FakePlatform, line: CommandLine, tmp_path: Path
) -> None:
    """By events of a real NATS, as a subscriber; and through its absence."""
    nats = ReadNats(tmp_path / "platform")
    root, first = tmp_path / "public", deploy(platform)
    words = watching(platform, tmp_path, "--nats-file", str(nats.subscriber_file))
    process = await line.start(*words)
    assert process.stdout
    following = Following(process.stdout)
    await is_served(root, first)
    # In whichever order.
    await following.until(lambda _: len(following.seen) == 2)
    said = "\n".join(following.seen)
    assert f"shop: the certificate of {SHOP} is new" in said
    assert "is it running?; projects are looked at every few minutes meanwhile" in said
    try:
        await nats.server.start()
        missed = deploy(platform)
        await following.until(has("is new"))  # for it is heard again
        await is_served(root, missed)
        renewed = deploy(platform)
        await nats.happens("renewed", "shop")
        await is_served(root, renewed)
        begun = time.monotonic()
        process.terminate()
        assert await process.wait() == 0
        assert time.monotonic() - begun < 5
    finally:
        nats.server.stop()
    out, err = await process.communicate()
    lines = [*following.seen, *out.decode().splitlines()]
    assert err == b""
    assert len(lines) == 4
    assert not any(API_KEY in text for text in lines)


async def test_it_stops_at_once_while_a_command_runs(
    platform: FakePlatform, line: CommandLine, tmp_path: Path
) -> None:
    deploy(platform)
    script = tmp_path / "reload"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid; sleep 60\n")
    script.chmod(0o755)
    words = watching(platform, tmp_path, "--reload-command", str(script))
    process = await line.start(*words)

    async def is_running() -> bool:
        return (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text())

    await eventually(is_running, "the command")
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert time.monotonic() - begun < 5
    await process.communicate()
    command = Path("/proc") / (tmp_path / "pid").read_text().strip()

    async def has_ended() -> bool:
        return not command.exists()

    await eventually(has_ended, "the end of the command")


WATCH = "--watch shop --live-dir l --api-key-file k"
WHERE = "--url https://localhost:1 --ca ca"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--watch Shop", "'Shop' is not the id of a project"),
        ("--watch a/b", "'a/b' is not the id of a project"),
        ("--watch shop --api-key-file k", "--watch goes with --live-dir"),
        ("--watch shop --live-dir l", "--watch goes with --api-key-file"),
        (WATCH, "--watch goes with --url"),
        (f"{WATCH} --url https://localhost:1", "--watch goes with --ca"),
        (f"{WATCH} --url https://localhost:1 --ca none", "is no file of CA certificates"),
        (f"{WATCH} --url http://localhost:1 --ca ca", "not the address of a platform"),
        (f"{WATCH} {WHERE} --api-key-file none", "cannot be read"),
        (f"{WATCH} {WHERE} --api-key-file open", "may be read by others"),
        (f"{WATCH} {WHERE} --nats-file broken", "is not an operator's file"),
        (f"{WATCH} {WHERE} --nats-file nats", "which nats names"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca").write_text(Authority().ca_pem)
    for name, mode in (("k", 0o600), ("open", 0o644)):
        (tmp_path / name).write_text(API_KEY)
        (tmp_path / name).chmod(mode)
    (tmp_path / "broken").write_text("{}")
    content = {"url": "nats://127.0.0.1:1", "nkey": "none.nk", "inbox_prefix": "_INBOX_edge"}
    (tmp_path / "nats").write_text(json.dumps(content))
    line = ["agent", "run", "--directory", "agent", "--once", *words.split()]
    try:
        code = main(line)
    except SystemExit as error:  # argparse's own
        code = int(str(error.code))
    assert code in {1, 2}
    assert reason in capsys.readouterr().err


ROOT = Path(main.__code__.co_filename).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def called(text: str) -> list[list[str]]:
    """Return the words of each call of `certwire agent` and `certwire subscriber` in a text."""
    lines = text.replace("\\\n", " ").splitlines()
    calls = [line.partition("certwire ")[2] for line in lines if CALL.search(line)]
    return [shlex.split(call) for call in calls]


@pytest.mark.parametrize("path", [*UNITS, ROOT / "docs" / "live-certificates.md"], ids=str)
def test_what_is_written_down_can_be_called(path: Path) -> None:
    calls = called(path.read_text())
    assert calls
    for words in calls:
        assert _parser(words).parse_args(words).module
