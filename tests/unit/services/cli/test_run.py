"""`certwire run`: a service as a process of its own."""

import asyncio
import json
import signal

from services.cli.run import installed
from tests.support.stack import Stack


async def test_a_service_runs_until_it_is_told_to_stop(stack: Stack) -> None:
    process = await stack.line.start("run", "registry")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while json.loads(await process.stdout.readline())["message"] != "ready":
            pass
    status = await stack.line.run("status", "--json")
    parts = {part["service"]: part for part in json.loads(status.out)["parts"]}
    assert parts["registry"]["ready"]
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    assert process.returncode == 0, out + err


def test_only_what_is_installed_can_be_run() -> None:
    assert {"issuer", "registry", "instance", "gateway"} <= set(installed())
