"""`certwire agent status`."""

import argparse

from services.cli import agent_join
from services.cli.errors import FAILURE, OK


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    agent_join.add_directory(parser)
    parser.epilog = (
        "Looks at the files alone. The exit code is 1 where the certificate has expired.\n\n"
        "Example:\n  certwire agent status --directory /var/lib/certwire-agent"
    )


def run(arguments: argparse.Namespace) -> int:
    """Say which certificate there is."""
    from services.cli.agent_files import AgentDirectory
    from services.cli.agent_work import Hook, Worker
    from shared.clock import utc_now

    directory = AgentDirectory(arguments.directory)
    identity, current = directory.identity(), directory.current()
    facts = Worker(directory, print, Hook()).facts()
    print(f"platform     {identity.url}")
    if identity.instance_id:
        print(f"instance     {identity.instance_id}")
    else:
        print(f"label        {identity.label}")
    if current is not None:
        print(f"serial       {current.serial_hex}")
        print(f"certificate  {directory.path / 'current' / 'client.crt'}")
    print(f"valid until  {facts.not_after:%Y-%m-%d %H:%M:%S} UTC")
    print(f"renewed at   {facts.renew_at:%Y-%m-%d %H:%M:%S} UTC, if not before")
    if facts.renewal_begun:
        print("renewal      begun, not answered yet")
    if facts.not_after <= utc_now():
        print("the certificate has expired: enrol again")
        return FAILURE
    return OK
