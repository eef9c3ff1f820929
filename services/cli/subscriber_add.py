"""`certwire subscriber add`."""

import argparse
import json
from contextlib import suppress
from pathlib import Path

from services.cli.errors import OK, CliError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", metavar="NAME", help="lower-case letters, digits and hyphens")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the files for it are written (here)",
    )
    parser.epilog = (
        "A subscriber reads the events, by one consumer that has its name: each host or system\n"
        "gets one of its own. Its key is written to NAME.nk, and where NATS is to NAME.json: both\n"
        "belong on its host, side by side, and are kept nowhere else.\n\n"
        "Example:\n  certwire subscriber add edge-1 --directory /root/edge-1"
    )


def run(arguments: argparse.Namespace) -> int:
    """Admit a subscriber."""
    from contracts.subjects import inbox
    from services.cli.subscribers import tell_nats
    from services.provisioning import nats
    from shared.files import write_private
    from shared.settings import Settings

    settings, name = Settings(), arguments.name
    if not (settings.secrets / "nats-operator-readers.seed").is_file():
        message = f"there are no keys in {settings.secrets}: run `certwire init`"
        raise CliError(message)
    try:
        seed = nats.add_subscriber(settings.secrets, name)
    except (ValueError, FileExistsError) as error:
        raise UsageError(str(error)) from error
    where = {"url": settings.nats_url, "nkey": f"{name}.nk", "inbox_prefix": inbox(name)}
    try:
        arguments.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(arguments.directory / f"{name}.nk", seed + "\n")
        write_private(arguments.directory / f"{name}.json", json.dumps(where, indent=2) + "\n")
        left = tell_nats(settings)
    except BaseException:  # nobody has the key
        with suppress(FileNotFoundError):
            nats.remove_subscriber(settings.secrets, name)
        raise
    print(f"files   {arguments.directory / f'{name}.json'}, {arguments.directory / f'{name}.nk'}")
    print(f"server  {settings.nats_url}, as {name}.json says: change it where hosts reach another")
    print(left)
    return OK
