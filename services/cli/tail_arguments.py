"""What `audit tail` and `events tail` are asked alike."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import Final

DURATION: Final = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,4})h)?(?:(\d{1,4})m)?(?:(\d{1,4})s)?")


def add_arguments(parser: argparse.ArgumentParser, what: str, number: str) -> None:
    """Add them; `what` is printed, and `number` says which number `--from-sequence` means."""
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--since",
        type=moment,
        metavar="TIME",
        help=f"{what} from a time on: 2026-03-14T03:00:00Z, or 90s, 10m, 2h30m, 7d ago",
    )
    begin.add_argument(
        "--from-sequence", type=_number, metavar="N", help=f"{what} from {number} on"
    )
    begin.add_argument(
        "--lines",
        type=_number,
        metavar="N",
        default=10,
        help=f"the last N {what} to begin with (10)",
    )
    parser.add_argument(
        "--no-follow", action="store_true", help=f"end after what is there, await no more {what}"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def moment(text: str) -> datetime:
    """Return the time that a person means. Raises `argparse.ArgumentTypeError`."""
    ago = DURATION.fullmatch(text)
    if text and ago:
        days, hours, minutes, seconds = (int(part or 0) for part in ago.groups())
        return datetime.now(UTC) - timedelta(
            days=days, hours=hours, minutes=minutes, seconds=seconds
        )
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a time with its zone, such as 2026-03-14T03:00:00Z, nor a"
            " duration, such as 10m"
        )
    return at.astimezone(UTC)


def _number(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) > 2**53:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)
