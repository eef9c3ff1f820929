"""`certwire agent status`."""

import argparse
from typing import TYPE_CHECKING

from services.cli import agent_join
from services.cli.errors import FAILURE, OK

if TYPE_CHECKING:
    from pathlib import Path

    from services.cli.agent_files import AgentDirectory
    from services.cli.watch_files import Project, Watch


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    agent_join.add_directory(parser)
    parser.epilog = (
        "Looks at the files alone, those of watched projects included. The exit code is 1 where a\n"
        "certificate has expired.\n\n"
        "Example:\n  certwire agent status --directory /var/lib/certwire-agent"
    )


def run(arguments: argparse.Namespace) -> int:
    """Say which certificates there are."""
    from services.cli import watch_files
    from services.cli.agent_files import AgentDirectory

    directory = AgentDirectory(arguments.directory)
    watch = watch_files.read(directory.path)
    ended = False
    if watch is None or directory.has_identity():
        ended = _own(directory)
    if watch is not None:
        ended |= _watched(watch)
    return FAILURE if ended else OK


def _own(directory: "AgentDirectory") -> bool:
    """Print the machine's own certificate; return whether it has expired."""
    from services.cli.agent_work import Hook, Worker
    from shared.clock import utc_now

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
        return True
    return False


def _watched(watch: "Watch") -> bool:
    """Print the certificates of watched projects; return whether one has expired."""
    from pathlib import Path

    from services.cli.tail_output import printable
    from shared import live_directory

    print(f"watched at   {watch.url}")
    if live_directory.reload_due(Path(watch.live_dir)) is not None:
        print("reload       due: files have changed since the last one that succeeded")
    ended = False
    for name, project in sorted(watch.projects.items()):
        text, has_expired = _certificate(Path(watch.live_dir), project)
        print(f"project      {name}: {text}, looked at {project.looked_at or 'never'}")
        if project.problem is not None:
            print(f"             {printable(project.problem)}")
        ended |= has_expired
    return ended


def _certificate(live_dir: "Path", project: "Project") -> tuple[str, bool]:
    """Return what a project has, and whether that has expired."""
    from cryptography import x509

    from shared import live_directory
    from shared.clock import utc_now

    if not project.domains:
        return "no certificate", False
    domain = project.domains[0]
    path = live_dir / live_directory.path_of(domain)
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        return f"{domain}: {error}", False
    until = certificate.not_valid_after_utc
    has_expired = until <= utc_now()
    word = "EXPIRED on" if has_expired else "valid until"
    return f"{path}, {word} {until:%Y-%m-%d %H:%M:%S} UTC", has_expired
