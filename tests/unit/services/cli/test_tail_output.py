"""Lines for a person."""

from datetime import UTC, datetime

import pytest

from services.cli.tail_output import WIDEST, Columns, Lines, printable, shown_detail, shown_time


def test_columns_grow_with_their_texts() -> None:
    columns = Columns(3, 2)
    assert columns.line(["a", "b", "the rest"]) == "a    b   the rest"
    assert columns.line(["longer", "b", ""]) == "longer  b"
    assert columns.line(["a", "b", "c"]) == "a       b   c"


def test_one_long_text_does_not_widen_all_lines() -> None:
    columns = Columns(1)
    columns.line(["x" * 500, ""])
    assert columns.line(["a", "b"]) == "a" + " " * (WIDEST + 1) + "b"


def test_nothing_reaches_the_terminal_as_a_command() -> None:
    assert printable("a\x1b[2Jb\nc\x9b\u202e") == "a\\x1b[2Jb\\nc\\x9b\\u202e"
    assert printable("Zoë 証明書") == "Zoë 証明書"
    assert "\x1b" not in Columns(1).line(["\x1b[31m", "\x1b[31m"])


def test_times_are_in_utc() -> None:
    assert shown_time(datetime(2026, 3, 14, 3, 0, 0, 1500, UTC)) == "2026-03-14T03:00:00.001Z"


def test_details_are_short() -> None:
    detail = {"code": "forbidden", "text": "two words", "n": 3, "list": [1], "none": None}
    shown = shown_detail(detail)  # type: ignore[arg-type]  # a plain dict is one of JSON values
    assert shown == 'code=forbidden text="two words" n=3 list=[1] none=null'


def test_only_the_last_lines_are_printed_before_the_release(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines(2)
    for text in ("one", "two", "three"):
        lines.add(text)
    assert capsys.readouterr().out == ""
    lines.release()
    lines.add("four")
    assert capsys.readouterr().out == "two\nthree\nfour\n"


def test_all_lines_are_printed_at_once_where_none_is_held_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Lines(None).add("one")
    assert capsys.readouterr().out == "one\n"
