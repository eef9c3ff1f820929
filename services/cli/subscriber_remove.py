"""`certwire subscriber remove`."""

import argparse

from services.cli.errors import OK, CliError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", metavar="NAME", help="the subscriber")
    parser.epilog = "Example:\n  certwire subscriber remove edge-1"


def run(arguments: argparse.Namespace) -> int:
    """Let a subscriber in no longer."""
    from services.cli.subscribers import tell_nats
    from services.provisioning import nats
    from shared.settings import Settings

    settings = Settings()
    try:
        nats.remove_subscriber(settings.secrets, arguments.name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except FileNotFoundError as error:
        message = f"there is no subscriber {arguments.name!r}"
        raise CliError(message) from error
    print(tell_nats(settings))
    return OK
