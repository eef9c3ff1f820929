"""`certwire kek retire`.

1. Each service makes sure, while nobody writes, that it has nothing under the old keys, and has its
   database refuse such values from then on: what a replica that was not told seals is not lost.
2. The old keys go from the file.

A run that was cut off between the two is finished by the next.
"""

import argparse
import asyncio
from typing import TYPE_CHECKING

from services.cli.errors import OK, CliError

if TYPE_CHECKING:
    from services.cli.kek import KekFile


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "After `certwire kek rotate`. Keep the old key with the backups that need it.\n\n"
        "Example:\n  certwire kek retire"
    )


def run(_arguments: argparse.Namespace) -> int:
    """Remove all keys but the current one."""
    from services.cli.kek import kek_file

    with kek_file() as file:
        old = file.ids[1:]
        if not old:
            raise CliError("there is only one key: `certwire kek rotate` makes another")
        asyncio.run(_retire(file))  # 1
        file.write(file.lines[:1])  # 2
        print(f"retired {', '.join(old)}")
    return OK


async def _retire(file: "KekFile") -> None:
    from contracts.errors import CertwireError
    from contracts.kek import KEK_COMMANDS
    from services.cli.bus import ask, cli_bus
    from services.cli.kek import sealed_values
    from shared.broker import own_call

    current, *old = file.ids
    async with cli_bus(file.settings) as bus:
        await sealed_values(bus)  # all are there
        for service, commands in KEK_COMMANDS.items():
            command = commands.retire(call=own_call(), key_id=current, retired=tuple(old))
            try:
                await ask(bus, command)
            except CertwireError as error:
                raise CliError(f"{service}: {error.detail or error.code}") from error
