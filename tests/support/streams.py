"""A NATS without Postgres, and the tails of its streams as a person would run them."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.cli.operator_access import OperatorAccess, OperatorSettings
from services.cli.stream_tail import StreamTail
from services.provisioning.nats import ensure_seeds, users
from tests.support.audit import streams_client
from tests.support.servers import NatsServer, Place


@asynccontextmanager
async def nats_alone(home: Path) -> AsyncIterator[tuple[NatsServer, Place]]:
    """Run a provisioned server."""
    ensure_seeds(home / "secrets", users())
    server = NatsServer(home / "nats", home / "secrets")
    await server.start()
    try:
        yield server, Place(home, nats_url=server.url)
    finally:
        server.stop()


async def happen(
    place: Place,
    payloads: Sequence[bytes],
    subject: str = "certwire.events.ca.created",
    headers: dict[str, str] | None = None,
) -> None:
    """Publish events."""
    async with streams_client(place, "issuer") as client:
        for payload in payloads:
            await client.jetstream().publish(subject, payload, stream="EVENTS", headers=headers)


async def mirrored(place: Place, stream: str, count: int) -> None:
    """Wait until the readers' copy of a stream has so many messages."""
    access = OperatorAccess.find(place.settings(OperatorSettings))
    for _ in range(200):
        async with StreamTail(access, stream, None)._connection() as client:
            if (await client.jetstream().stream_info(stream)).state.last_seq >= count:
                return
        await asyncio.sleep(0.05)
    pytest.fail("the mirror does not follow")


def parsed(module: object, *words: str) -> argparse.Namespace:
    """Return the arguments of a command."""
    parser = argparse.ArgumentParser()
    module.configure(parser)  # type: ignore[attr-defined]  # every command's module has it
    return parser.parse_args(words)


@asynccontextmanager
async def certwire(place: Place, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.cli.main",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "CERTWIRE_HOME": str(place.home), "NATS_URL": place.nats_url},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
