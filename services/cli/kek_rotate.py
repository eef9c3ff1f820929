"""`certwire kek rotate`.

Each step may be repeated and leaves what it finds, so a run that was cut off anywhere is finished
by the next:

1. All services answer, and seal with the first key of the file that is here: else nothing is done.
2. A file with one key gets a new one in front, in one rename. Services read it with the next value.
3. Each service puts its values under the new key, some seconds a call.
"""

import argparse
import asyncio
from typing import TYPE_CHECKING

from services.cli.errors import OK, CliError

if TYPE_CHECKING:
    from contracts.kek import KekCommands
    from contracts.subjects import Service
    from services.cli.kek import KekFile
    from shared.broker import Bus


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "The services go on working. Safe to repeat: it goes on with a rotation that was cut off.\n"
        "The old key stays in the file until `certwire kek retire`, and belongs to every backup\n"
        "of the database that was made before.\n\n"
        "Example:\n  certwire kek rotate && certwire kek retire"
    )


def run(_arguments: argparse.Namespace) -> int:
    """Put everything that is sealed under a new key."""
    from services.cli.kek import kek_file

    with kek_file() as file:
        asyncio.run(_rotate(file))
        print(f"everything is under {file.ids[0]}: `certwire kek retire` removes the old key")
    return OK


async def _rotate(file: "KekFile") -> None:
    from contracts.kek import KEK_COMMANDS
    from services.cli.bus import cli_bus
    from services.cli.kek import sealed_values
    from shared.secrets import new_key

    async with cli_bus(file.settings) as bus:
        for service, found in (await sealed_values(bus)).items():  # 1
            if found.current != file.ids[0]:
                raise CliError(
                    f"the {service} seals with {found.current}, but the first key here is"
                    f" {file.ids[0]}: has it been given this secret?"
                )
        if len(file.lines) == 1:  # 2
            file.write([new_key(), *file.lines])
        for service, commands in KEK_COMMANDS.items():  # 3
            values = await _rewrap(bus, service, commands, file.ids[0])
            print(f"{service}: {values} values", flush=True)


async def _rewrap(bus: "Bus", service: "Service", commands: "KekCommands", key_id: str) -> int:
    from contracts.errors import CertwireError
    from services.cli.bus import ask
    from shared.broker import own_call

    values, left = 0, 1
    while left:
        command = commands.rewrap(call=own_call(), key_id=key_id, values=values)
        try:
            reply = await ask(bus, command)
        except CertwireError as error:
            raise CliError(
                f"{service}: {error.detail or error.code}; run it again once that is mended"
            ) from error
        values, left = values + reply.values, reply.left
    return values
