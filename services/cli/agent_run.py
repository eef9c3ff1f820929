"""`certwire agent run`."""

import argparse
import contextlib
import signal
import sys
from typing import Final

from services.cli import agent_join
from services.cli.errors import FAILURE, OK

HOOK_SECONDS: Final = 60.0
SECRETS_SECONDS: Final = 900.0
"""Four of the sixty refreshes that an instance has in an hour."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    agent_join.add_directory(parser)
    parser.add_argument(
        "--hook",
        default="",
        metavar="COMMAND",
        help="a command to run after a renewal or a change of secrets, until it succeeds",
    )
    parser.add_argument(
        "--hook-timeout",
        type=float,
        default=HOOK_SECONDS,
        metavar="SECONDS",
        help=f"how long it may take ({HOOK_SECONDS:g})",
    )
    parser.add_argument(
        "--secrets-interval",
        type=float,
        default=SECRETS_SECONDS,
        metavar="SECONDS",
        help=f"how often an instance's secrets are fetched; 0 never ({SECRETS_SECONDS:g})",
    )
    parser.add_argument("--once", action="store_true", help="do what is due, then end")
    parser.epilog = (
        "The certificate is renewed at two thirds of its life. Files in the directory:\n"
        "  current/client.key, current/client.crt   a pair at every moment\n"
        "  current/client.pem                       both in one file\n"
        "  secrets.json                             an instance's secrets\n\n"
        "Example:\n"
        "  certwire agent run --directory /var/lib/certwire-agent --hook 'systemctl reload nginx'"
    )


def run(arguments: argparse.Namespace) -> int:
    """Keep the certificate fresh until told to stop."""
    from services.cli.agent_files import AgentDirectory
    from services.cli.agent_work import Hook, Worker

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(OK))
    directory = AgentDirectory(arguments.directory)
    directory.identity()  # where there is none, say so at once
    hook = Hook(arguments.hook, arguments.hook_timeout)
    worker = Worker(directory, _say, hook, arguments.secrets_interval)
    if arguments.once:
        return OK if worker.run_once() else FAILURE
    worker.run()
    return OK


def _say(text: str) -> None:
    """Tell the log; one that is full or gone is no reason to end."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
