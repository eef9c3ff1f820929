"""`certwire run <service>`."""

import argparse
import importlib
from pathlib import Path

from contracts.subjects import Service
from services.cli.errors import OK


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("service", choices=[str(service) for service in installed()])
    parser.epilog = (
        "It works until it gets SIGTERM or SIGINT, and waits for whatever it needs.\n"
        "Where Postgres and NATS are: DATABASE_URL, NATS_URL; secrets: CERTWIRE_SECRETS_DIR.\n\n"
        "Example:\n  certwire run issuer"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the service until it is told to stop."""
    service = Service(arguments.service)
    app = importlib.import_module(f"services.{service}.app")
    settings_module = importlib.import_module(f"services.{service}.settings")
    settings = getattr(settings_module, f"{service.capitalize()}Settings")()
    if service is Service.GATEWAY:  # it has no database, and so no runtime
        app.run(settings)
        return OK
    from shared.runtime import run as run_service

    run_service(lambda: app.build(settings), service, settings)
    return OK


def installed() -> list[Service]:
    """Return the services that are part of this installation."""
    packages = Path(__file__).parent.parent
    return [service for service in Service if (packages / service / "app.py").is_file()]
