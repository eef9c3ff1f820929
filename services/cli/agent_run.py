"""`certwire agent run`."""

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.cli import agent_join
from services.cli.errors import FAILURE, OK, UsageError

if TYPE_CHECKING:
    from services.cli.agent_files import AgentDirectory
    from services.cli.agent_watch import Watcher
    from services.cli.watch_events import Events

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
    _add_watching(parser.add_argument_group("public certificates of projects"))
    parser.epilog = (
        "The certificate is renewed at two thirds of its life. Files in the directory:\n"
        "  current/client.key, current/client.crt   a pair at every moment\n"
        "  current/client.pem                       both in one file\n"
        "  secrets.json                             an instance's secrets\n\n"
        "With --watch it brings projects' certificates, with their keys, to\n"
        "  LIVE_DIR/live/<domain>/{cert,chain,fullchain,privkey}.pem\n"
        "and keeps them as the platform has them; _wildcard.<domain> stands for *.<domain>. The\n"
        "directory may be of a host that only watches, and has no certificate of its own. Without\n"
        "--nats-file, and while NATS is away, it looks every few minutes.\n\n"
        "Examples:\n"
        "  certwire agent run --directory /var/lib/certwire-agent --hook 'systemctl reload nginx'\n"
        "  certwire agent run --directory /var/lib/certwire-agent --watch shop --watch blog \\\n"
        "    --url https://pki.example.com:8443 --ca ca.crt --api-key-file api-key \\\n"
        "    --nats-file nats.json --live-dir /etc/certwire --reload-command 'nginx -s reload'"
    )


def _add_watching(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--watch",
        action="append",
        default=[],
        type=_project,
        metavar="PROJECT",
        help="keep this project's certificate here; may be given several times",
    )
    group.add_argument(
        "--live-dir", type=Path, metavar="DIR", help="where the certificates' files are kept"
    )
    group.add_argument(
        "--reload-command",
        default="",
        metavar="COMMAND",
        help="a command to run after they changed, until it succeeds; no shell",
    )
    group.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="an API key with projects: read and keys: read, for nobody else to read (0600)",
    )
    group.add_argument("--url", help="where the platform is, unless the agent has enrolled there")
    group.add_argument(
        "--ca",
        "--ca-file",
        type=Path,
        metavar="FILE",
        help="its CA certificates, unless the agent has them",
    )
    group.add_argument(
        "--nats-file",
        type=Path,
        metavar="FILE",
        help="a subscriber's file, with url, nkey and inbox_prefix: changes are here in a second",
    )
    group.add_argument(
        "--nats-ca-file", type=Path, metavar="FILE", help="what to trust NATS's certificate by"
    )


def _project(text: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from contracts.acme import ProjectId

    try:
        return TypeAdapter[str](ProjectId).validate_python(text)
    except ValidationError:
        message = f"{text!r} is not the id of a project"
        raise argparse.ArgumentTypeError(message) from None


def run(arguments: argparse.Namespace) -> int:
    """Keep the certificates fresh until told to stop."""
    from services.cli.agent_files import AgentDirectory
    from services.cli.agent_work import Hook, Worker

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(OK))
    directory = AgentDirectory(arguments.directory)
    events = watcher = None
    if arguments.watch:
        events, watcher = _watching(directory, arguments)
    else:
        directory.identity()  # where there is none, say so at once
    worker = None
    if directory.has_identity():
        hook = Hook(arguments.hook, arguments.hook_timeout)
        worker = Worker(directory, _say, hook, arguments.secrets_interval)
    parts = [part for part in (worker, watcher) if part is not None]
    if arguments.once:
        succeeded = [part.run_once() for part in parts]
        return OK if all(succeeded) else FAILURE
    wait: Callable[[float], None] = time.sleep
    if events is not None:
        events.start()
        wait = events.wait
    while True:
        wait(min(part.turn() for part in parts))


def _watching(
    directory: "AgentDirectory", arguments: argparse.Namespace
) -> "tuple[Events | None, Watcher]":
    """Return what watches. Raises CliError, and UsageError for what is missing."""
    from services.cli.agent_platform import PlatformError, api_key_of
    from services.cli.agent_watch import Watcher, Watching
    from services.cli.operator_access import OperatorAccess
    from services.cli.watch_events import Events

    for name in ("live_dir", "api_key_file"):
        if getattr(arguments, name) is None:
            raise UsageError(f"--watch goes with --{name.replace('_', '-')}")
    directory.make()
    if arguments.url is None and not directory.has_identity():
        raise UsageError("--watch goes with --url: the agent has not enrolled anywhere")
    if arguments.ca is not None:
        agent_join.ca_of(arguments)
    elif not directory.has_identity():
        raise UsageError("--watch goes with --ca: the agent has not enrolled anywhere")
    try:
        api_key_of(arguments.api_key_file)
    except PlatformError as error:
        raise UsageError(str(error)) from error
    projects = tuple(dict.fromkeys(arguments.watch))
    events = None
    if arguments.nats_file is not None:
        access = OperatorAccess.read(arguments.nats_file, arguments.nats_ca_file)
        if not access.seed_file.is_file():
            raise UsageError(f"there is no {access.seed_file}, which {arguments.nats_file} names")
        events = Events(access, projects)
    watching = Watching(
        url=arguments.url or directory.identity().url,
        ca=arguments.ca or directory.ca,
        api_key_file=arguments.api_key_file,
        projects=projects,
        live_dir=arguments.live_dir,
        reload_command=arguments.reload_command,
    )
    return events, Watcher(directory.path, watching, _say, events)


def _say(text: str) -> None:
    """Tell the log; one that is full or gone is no reason to end."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
