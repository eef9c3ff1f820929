"""`certwire audit tail`."""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from services.cli.errors import FAILURE, OK
from services.cli.tail_arguments import add_arguments

if TYPE_CHECKING:
    from services.audit.domain.verification import Genuine
    from services.cli.operator_access import OperatorSettings
    from services.cli.stream_tail import Delivered

RED: Final = "\x1b[1;31m{}\x1b[0m"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from contracts.subjects import Service

    add_arguments(parser, "records", "this number of their service")
    parser.add_argument("--service", choices=[str(s) for s in Service], help="of one service only")
    parser.add_argument("--action", help="of one action only, such as cert_renew")
    parser.epilog = (
        "It reads what the last 30 days kept. Every record's hash, and its link to the one before\n"
        "it, is checked; what does not fit is said on standard error, and the exit code is 1.\n\n"
        "Examples:\n"
        "  certwire audit tail\n"
        "  certwire audit tail --since 10m --action cert_renew\n"
        "  certwire audit tail --from-sequence 1 --no-follow --json > audit.jsonl"
    )


def run(arguments: argparse.Namespace) -> int:
    """Follow the audit log."""
    from services.cli.operator_access import OperatorSettings

    return run_audit_tail(OperatorSettings(), arguments)


def run_audit_tail(settings: "OperatorSettings", arguments: argparse.Namespace) -> int:
    """Print audit records; return the exit code. Raises `CliError`."""
    return asyncio.run(_tail(settings, arguments))


async def _tail(settings: "OperatorSettings", arguments: argparse.Namespace) -> int:
    from contracts.subjects import AUDIT_STREAM, Service, audit_records_of
    from services.cli.operator_access import OperatorAccess
    from services.cli.stream_tail import LOOKED_THROUGH, CaughtUp, Start, StreamTail

    tail = StreamTail(
        OperatorAccess.find(settings),
        AUDIT_STREAM,
        audit_records_of(Service(arguments.service)) if arguments.service else None,
    )
    # The stream has numbers of its own: each service's are found by looking at all records.
    first = None if arguments.from_sequence is None else 1
    last = LOOKED_THROUGH if arguments.action or arguments.service else arguments.lines
    start = Start(time=arguments.since, sequence=first, last=last)
    printer = _Printer(arguments)
    async with aclosing(tail.follow(start)) as items:
        async for item in items:
            if not isinstance(item, CaughtUp):
                printer.take(item)
                continue
            printer.lines.release()
            if arguments.no_follow:
                break
    return FAILURE if printer.broken else OK


class _Printer:
    """Checks every record and prints those that are asked for."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from services.cli.chain_watch import ChainWatch
        from services.cli.tail_output import Columns, Lines

        whole = arguments.since is not None or arguments.from_sequence is not None
        self.lines = Lines(None if whole else arguments.lines)
        self.broken = False
        self._arguments = arguments
        self._watch = ChainWatch()
        self._columns = Columns(24, 12, 22, 16, 34, 7)

    def take(self, delivered: "Delivered") -> None:
        """Check a record, and print it where it is asked for."""
        from contracts.subjects import AUDIT_CHECKPOINT
        from services.audit.domain.verification import Arrival, Violation, examine

        if delivered.subject == AUDIT_CHECKPOINT:
            return
        examined = examine(Arrival(delivered.subject, delivered.payload))
        if isinstance(examined, Violation):
            claims = f"{examined.service}#{examined.sequence} on {delivered.subject}"
            self._shout([f"{claims} is not a true record: {examined.reason}"])
            return
        new, problems = self._watch.observe(examined)
        self._shout(problems)
        if new and self._asked_for(examined):
            text = examined.text if self._arguments.json else self._columns.line(_cells(examined))
            self.lines.add(text)

    def _asked_for(self, genuine: "Genuine") -> bool:
        record, asked = genuine.record, self._arguments
        return (asked.from_sequence is None or record.sequence >= asked.from_sequence) and (
            asked.action is None or record.action == asked.action
        )

    def _shout(self, problems: list[str]) -> None:
        from services.cli.tail_output import printable

        for problem in problems:
            self.broken = True
            text = f"AUDIT LOG BROKEN: {printable(problem)}"
            print(RED.format(text) if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def _cells(genuine: "Genuine") -> Iterator[str]:
    from services.cli.tail_output import shown_detail, shown_time

    record = genuine.record
    yield shown_time(record.time)
    yield f"{record.service}#{record.sequence}"
    yield f"{record.actor.kind}:{record.actor.name or record.actor.id}".removesuffix(":")
    yield record.action
    yield f"{record.object.type}:{record.object.name or record.object.id}".removesuffix(":")
    yield str(record.outcome)
    yield shown_detail(record.detail)
