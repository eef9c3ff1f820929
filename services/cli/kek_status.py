"""`certwire kek status`."""

import argparse
import asyncio
import json
from typing import TYPE_CHECKING

from services.cli.errors import OK
from services.cli.table import print_table

if TYPE_CHECKING:
    from contracts.kek import SealedValues
    from contracts.subjects import Service
    from shared.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = (
        "Keys are named by their ids. A service's current key seals what it writes from now on.\n\n"
        "Example:\n  certwire kek status"
    )


def run(arguments: argparse.Namespace) -> int:
    """Say how many values are under which key."""
    from shared.secrets import key_ids
    from shared.settings import SealingSettings

    settings = SealingSettings()
    known = key_ids(settings.key_encryption_keys())
    found = asyncio.run(_found(settings))
    rows = [
        {
            "service": str(service),
            "key_id": key_id,
            "values": values.counts.get(key_id, 0),
            "current": key_id == values.current,
            "known": key_id in known,
        }
        for service, values in found.items()
        for key_id in dict.fromkeys([values.current, *known, *values.counts])
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(("SERVICE", "KEY", "VALUES", ""), [_shown(row) for row in rows])
    return OK


async def _found(settings: "Settings") -> "dict[Service, SealedValues]":
    from services.cli.bus import cli_bus
    from services.cli.kek import sealed_values

    async with cli_bus(settings) as bus:
        return await sealed_values(bus)


def _shown(row: dict[str, object]) -> tuple[str, str, str, str]:
    state = "current" if row["current"] else "" if row["known"] else "not in this secret"
    return str(row["service"]), str(row["key_id"]), str(row["values"]), state
