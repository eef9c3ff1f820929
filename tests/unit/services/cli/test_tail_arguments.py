"""Times and numbers as a person writes them."""

import argparse
from datetime import UTC, datetime, timedelta

import pytest

from services.cli.tail_arguments import add_arguments, moment


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("2h30m", timedelta(hours=2, minutes=30)),
        ("7d", timedelta(days=7)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
    ],
)
def test_a_duration_is_ago(text: str, ago: timedelta) -> None:
    assert abs(datetime.now(UTC) - ago - moment(text)) < timedelta(seconds=1)


@pytest.mark.parametrize(
    "text", ["2026-03-14T03:00:00Z", "2026-03-14T04:00:00+01:00", "2026-03-14T03:00:00.000Z"]
)
def test_a_time_has_a_zone(text: str) -> None:
    assert moment(text) == datetime(2026, 3, 14, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "10", "10x", "m", "-10m", "2026-03-14T03:00:00", "2026-13-01", "9" * 9],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="neither a time"):
        moment(text)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser, "records", "this number")
    return parser.parse_args(words)


def test_defaults() -> None:
    arguments = parse()
    assert (arguments.since, arguments.from_sequence, arguments.lines) == (None, None, 10)
    assert (arguments.no_follow, arguments.json) == (False, False)


@pytest.mark.parametrize(
    "words",
    [
        ["--since", "10m", "--from-sequence", "3"],
        ["--from-sequence", "-3"],
        ["--from-sequence", "9" * 40],
        ["--lines", "²"],
    ],
)
def test_nonsense_is_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(*words)
    assert exit_.value.code == 2
