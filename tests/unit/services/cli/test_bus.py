"""The command line's way to the services."""

import json
from pathlib import Path

from tests.support.command_line import CommandLine
from tests.support.stack import Stack


async def test_services_that_do_not_run_are_told_from_a_platform_that_does_not(
    stack: Stack, tmp_path: Path
) -> None:
    done = await stack.line.run("admin", "reset", "--output", str(tmp_path / "new.p12"))
    assert (done.code, done.err) == (1, "certwire: the registry service is unavailable\n")
    away = CommandLine({**stack.line.environment, "NATS_URL": "nats://127.0.0.1:9"})
    done = await away.run("onboarding", "complete")
    assert done.code == 1
    assert done.err == (
        "certwire: the platform does not answer at nats://127.0.0.1:9: is it running?\n"
    )
    done = await away.run("status", "--json")
    assert done.code == 1
    assert json.loads(done.out)["parts"][1]["ready"] is False


async def test_a_home_without_keys_is_named(tmp_path: Path) -> None:
    line = CommandLine.at(tmp_path, NATS_URL="nats://127.0.0.1:9")
    done = await line.run("onboarding", "complete")
    assert done.code == 1
    assert done.err.startswith(f"certwire: there are no keys in {tmp_path}/secrets: ")
    status = await line.run("status")
    assert status.code == 1
    assert "not ready" in status.out
    assert status.err == ""
