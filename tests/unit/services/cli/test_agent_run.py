"""`certwire agent …`, as a person or systemd calls it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.cli.agent_files import AgentDirectory
from services.cli.main import main
from tests.support.agent_platform import DROP, INSTANCE, TOKEN, FakePlatform, serving
from tests.support.command_line import CommandLine
from tests.support.joined import joined


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
