"""The bus as the NATS user `cli` sees it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

from faststream.nats import NatsBroker
from nats.errors import Error as NatsError

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command, Message
from contracts.subjects import CLI
from services.cli.errors import CliError
from shared.broker import Bus, close, nats_broker
from shared.settings import Settings

CONNECT_SECONDS: Final = 3.0
ReplyT = TypeVar("ReplyT", bound=Message)


@asynccontextmanager
async def cli_bus(settings: Settings) -> AsyncIterator[Bus]:
    """Lend the bus. Raises `CliError` where the platform isn't there."""
    async with cli_broker(settings) as broker:
        yield Bus(CLI, broker)


@asynccontextmanager
async def cli_broker(settings: Settings) -> AsyncIterator[NatsBroker]:
    """Lend a connection to the bus. Raises `CliError` where the platform isn't there."""
    logging.getLogger().addHandler(logging.NullHandler())  # the person hears it from us
    try:
        settings.secret(f"nats-{CLI}-bus.seed")  # read again by the broker, but late
    except FileNotFoundError as error:
        raise CliError(
            f"there are no keys in {settings.secrets}: run `certwire init`, or set CERTWIRE_HOME"
        ) from error
    broker = nats_broker(settings, CLI, "bus")
    try:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await broker.connect()
        except (NatsError, OSError, TimeoutError) as error:
            raise CliError(
                f"the platform does not answer at {settings.nats_url}: is it running?"
            ) from error
        yield broker
    finally:
        with suppress(NatsError, OSError):
            await close(broker)


async def ask(bus: Bus, command: Command[ReplyT]) -> ReplyT:
    """Return the reply to a command. Raises `CliError` where it can't be known."""
    try:
        return await bus.request(command)
    except CertwireError as error:
        if error.code is ErrorCode.OUTCOME_UNKNOWN:
            raise CliError("no answer in time: it may have taken effect, or not") from error
        raise
