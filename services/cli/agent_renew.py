"""`certwire agent renew`."""

import argparse
from typing import Final

from services.cli import agent_join
from services.cli.errors import OK, CliError

TIMEOUT_SECONDS: Final = 60


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    agent_join.add_directory(parser)
    parser.epilog = (
        "Makes a new key and certificate now, whatever the age of those in use. A running\n"
        "`certwire agent run` goes on with them, and runs its hook.\n\n"
        "Example:\n  certwire agent renew --directory /var/lib/certwire-agent"
    )


def run(arguments: argparse.Namespace) -> int:
    """Renew the certificate now."""
    from services.cli.agent_files import AgentDirectory
    from services.cli.agent_work import FailedError, described, renew

    directory = AgentDirectory(arguments.directory)
    directory.identity()
    with directory.locked():
        try:
            current = renew(directory)
        except (FailedError, ValueError) as error:
            raise CliError(str(error)) from error
    print(described("renewed", current))
    return OK
