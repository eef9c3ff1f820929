"""`certwire events tail`."""

import argparse
import asyncio
import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from services.cli.errors import OK
from services.cli.tail_arguments import add_arguments

if TYPE_CHECKING:
    from services.cli.operator_access import OperatorSettings
    from services.cli.stream_tail import Delivered

REMEMBERED: Final = 10_000
"""Ids by which an event that was published again is known."""
ATTRIBUTE: Final = "ce-"  # the CloudEvents binding for NATS
TYPE: Final = re.compile(r"([a-z_]+)(?:\.([a-z_]+))?")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_arguments(parser, "events", "this number in the stream")
    parser.add_argument(
        "--type",
        type=_type,
        metavar="NOUN[.VERB]",
        help="of one type only, such as certificate.renewed",
    )
    parser.epilog = (
        "With --json each line is a CloudEvent in its JSON format; `streamsequence` is the number\n"
        "for --from-sequence.\n\n"
        "Examples:\n"
        "  certwire events tail --type instance\n"
        "  certwire events tail --since 1h --no-follow --json"
    )


def _type(text: str) -> tuple[str, str | None]:
    match = TYPE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a type, such as certificate.renewed")
    return match[1], match[2]


def run(arguments: argparse.Namespace) -> int:
    """Follow the events."""
    from services.cli.operator_access import OperatorSettings

    return run_events_tail(OperatorSettings(), arguments)


def run_events_tail(settings: "OperatorSettings", arguments: argparse.Namespace) -> int:
    """Print events; return the exit code. Raises `CliError`."""
    return asyncio.run(_tail(settings, arguments))


async def _tail(settings: "OperatorSettings", arguments: argparse.Namespace) -> int:
    from contracts.subjects import EVENTS_STREAM, event, events_of
    from services.cli.operator_access import OperatorAccess
    from services.cli.stream_tail import LOOKED_THROUGH, CaughtUp, Start, StreamTail

    subject = None
    if arguments.type:
        noun, verb = arguments.type
        subject = event(noun, verb) if verb else events_of(noun)
    tail = StreamTail(OperatorAccess.find(settings), EVENTS_STREAM, subject)
    last = LOOKED_THROUGH if subject else arguments.lines
    start = Start(time=arguments.since, sequence=arguments.from_sequence, last=last)
    printer = _Printer(arguments)
    async with aclosing(tail.follow(start)) as items:
        async for item in items:
            if not isinstance(item, CaughtUp):
                printer.take(item, again=tail.made_anew)
                continue
            printer.lines.release()
            if arguments.no_follow:
                break
    return OK


class _Printer:
    """Prints each event once."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from services.cli.tail_output import Columns, Lines

        whole = arguments.since is not None or arguments.from_sequence is not None
        self.lines = Lines(None if whole else arguments.lines)
        self._json: bool = arguments.json
        self._columns = Columns(24, 6, 20, 36)
        self._printed: OrderedDict[str, None] = OrderedDict()
        self._first_time: str | None = None

    def take(self, delivered: "Delivered", *, again: bool) -> None:
        """Print an event, unless it was; `again` says that older ones come back."""
        cloud_event = _cloud_event(delivered)
        event_id = str(cloud_event.get("id", delivered.sequence))
        time = str(cloud_event.get("time", ""))
        if self._first_time is None:
            self._first_time = time
        if event_id in self._printed or (again and time < self._first_time):
            return
        self._printed[event_id] = None
        if len(self._printed) > REMEMBERED:
            self._printed.popitem(last=False)
        if self._json:
            text = json.dumps(
                cloud_event, sort_keys=True, separators=(",", ":"), ensure_ascii=False
            )
        else:
            text = self._columns.line(_cells(cloud_event))
        self.lines.add(text)


def _cloud_event(delivered: "Delivered") -> dict[str, Any]:
    """Return the event in the JSON format of CloudEvents."""
    attributes = {
        name.removeprefix(ATTRIBUTE): value
        for name, value in delivered.headers.items()
        if name.startswith(ATTRIBUTE)
    }
    try:
        data = json.loads(delivered.payload)
    except ValueError:
        data = delivered.payload.decode(errors="replace")
    return {**attributes, "streamsequence": delivered.sequence, "data": data}


def _cells(cloud_event: dict[str, Any]) -> Iterator[str]:
    from services.cli.tail_output import shown_detail

    data = cloud_event["data"]
    yield str(cloud_event.get("time", ""))[:23] + "Z"
    yield f"#{cloud_event['streamsequence']}"
    yield str(cloud_event.get("type", "")).removeprefix("certwire.")
    yield str(cloud_event.get("subject", ""))
    yield shown_detail(data) if isinstance(data, dict) else str(data)
