"""`certwire migrate`."""

import argparse
import asyncio

from services.cli.errors import OK


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "Safe to repeat, and from several places at once. `certwire init` does it too; use this\n"
        "one after an update, before the services start.\n\n"
        "Example:\n  DATABASE_URL=postgresql://db/certwire certwire migrate"
    )


def run(_arguments: argparse.Namespace) -> int:
    """Migrate every schema."""
    from services.provisioning.postgres import migrate_all
    from shared.settings import Settings

    applied = asyncio.run(migrate_all(Settings()))
    for schema, names in applied.items():
        print(f"{schema}: {', '.join(names) or 'up to date'}")
    return OK
