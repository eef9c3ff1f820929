"""`certwire status`."""

import argparse
import asyncio
import json
from typing import TYPE_CHECKING, Final

from services.cli.errors import FAILURE, OK, CliError
from services.cli.run import installed
from services.cli.table import print_table

if TYPE_CHECKING:
    from contracts.status import StatusReport
    from contracts.subjects import Service
    from shared.broker import Bus
    from shared.settings import Settings

ANSWER_SECONDS: Final = 3.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = (
        "WAITING is what a service has committed and not yet published.\n"
        "Exit code 1 where any part is not ready.\n\n"
        "Examples:\n  certwire status\n  certwire status --json | jq .ready"
    )


def run(arguments: argparse.Namespace) -> int:
    """Say how each part is."""
    from services.cli.bootstrap_clear import directory_of
    from shared.settings import Settings

    settings = Settings()
    reports = asyncio.run(_reports(settings))
    directory = directory_of(settings.home)
    warnings = [f"{report.service}: {text}" for report in reports for text in report.warnings]
    if directory.is_dir():
        warnings.append(f"{directory} holds secrets: `certwire bootstrap clear` removes them")
    ready = all(report.ready for report in reports)
    if arguments.json:
        parts = [report.model_dump(mode="json", exclude={"warnings"}) for report in reports]
        print(json.dumps({"ready": ready, "parts": parts, "warnings": warnings}, indent=2))
    else:
        _print(reports, warnings)
    return OK if ready else FAILURE


def _print(reports: "list[StatusReport]", warnings: list[str]) -> None:
    rows = [
        (
            report.service,
            report.version,
            "ready" if report.ready else "not ready",
            "" if report.outbox_waiting is None else str(report.outbox_waiting),
            ", ".join(report.missing),
        )
        for report in reports
    ]
    print_table(("PART", "VERSION", "STATE", "WAITING", "MISSING"), rows)
    for warning in warnings:
        print(f"warning: {warning}")


async def _reports(settings: "Settings") -> "list[StatusReport]":
    postgres, others = await asyncio.gather(_postgres(settings), _nats(settings, installed()))
    return [postgres, *others]


async def _postgres(settings: "Settings") -> "StatusReport":
    import asyncpg

    from contracts.status import StatusReport
    from services.provisioning.postgres import INSPECT
    from shared.database import LOST, role_url

    try:
        connection = await asyncpg.connect(role_url(settings, INSPECT), timeout=ANSWER_SECONDS)
    except OSError:  # a time-out is one too
        return _missing("postgres", "it does not answer")
    except (*LOST, asyncpg.PostgresError) as error:
        return _missing("postgres", str(error) or type(error).__name__)
    version = str(connection.get_server_version().major)
    minor = connection.get_server_version().minor
    await connection.close()
    return StatusReport(service="postgres", version=f"{version}.{minor}", ready=True)


async def _nats(settings: "Settings", services: "list[Service]") -> "list[StatusReport]":
    """Return how NATS is, and what the services say of themselves over it."""
    from contracts.status import StatusReport
    from contracts.subjects import CLI
    from services.cli.bus import cli_broker
    from shared.broker import Bus

    try:
        async with cli_broker(settings) as broker:
            server = broker.connection.connected_server_version
            version = f"{server.major}.{server.minor}.{server.patch}"
            bus = Bus(CLI, broker)
            reports = await asyncio.gather(*(_service(bus, service) for service in services))
    except CliError as error:
        unknown = [_missing(service, "unknown without NATS") for service in services]
        return [_missing("nats", str(error)), *unknown]
    return [StatusReport(service="nats", version=version, ready=True), *reports]


async def _service(bus: "Bus", service: "Service") -> "StatusReport":
    from contracts.errors import CertwireError, ErrorCode
    from contracts.status import GetStatus, status_subject
    from shared.broker import own_call

    try:
        return await bus.request(
            GetStatus(call=own_call(ANSWER_SECONDS)), subject=status_subject(service)
        )
    except CertwireError as error:
        unknown = error.code is ErrorCode.OUTCOME_UNKNOWN
        return _missing(service, "it does not answer" if unknown else "it does not run")


def _missing(part: str, reason: str) -> "StatusReport":
    from contracts.status import StatusReport

    return StatusReport(service=part, version="", ready=False, missing=(reason,))
