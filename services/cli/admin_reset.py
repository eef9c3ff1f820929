"""`certwire admin reset`."""

import argparse
import asyncio
import os
from pathlib import Path

from services.cli.errors import OK, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("admin.p12"),
        metavar="FILE",
        help="where the PKCS#12 file goes (admin.p12)",
    )
    parser.epilog = (
        "The certificate before it is revoked, in whatever state it is: lost, expired or in\n"
        "hardware. The password of the file is printed once and kept nowhere.\n\n"
        "Example:\n  certwire admin reset --output admin.p12"
    )


def run(arguments: argparse.Namespace) -> int:
    """Make a new administrator's certificate."""
    output: Path = arguments.output
    if output.is_dir() or not os.access(output.absolute().parent, os.W_OK):
        raise UsageError(f"{output} can't be written")  # before the old one is revoked
    asyncio.run(_reset(output))
    return OK


async def _reset(output: Path) -> None:
    from contracts.registry import ResetAdmin
    from services.cli.bootstrap_clear import directory_of
    from services.cli.bootstrap_files import write_admin
    from services.cli.bus import ask, cli_bus
    from shared.broker import own_call
    from shared.files import write_private
    from shared.settings import Settings

    settings = Settings()
    async with cli_bus(settings) as bus:
        bundle = await ask(bus, ResetAdmin(call=own_call(20)))
    write_private(output, bundle.pkcs12)
    directory = directory_of(settings.home)
    if directory.is_dir():  # what lies there would be refused from now on
        write_admin(directory, bundle.pkcs12, bundle.password)
    print(f"certificate  {output}")
    print(f"password     {bundle.password}")
    print(f"serial       {bundle.serial_hex.upper()}")
    print(f"expires      {bundle.expires_at:%Y-%m-%d}")
