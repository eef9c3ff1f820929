"""Tables for a person."""

import pytest

from services.cli.table import print_table


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "BCD", "E"), [("long", "x", ""), ("s", "y", "z")])
    assert capsys.readouterr().out == "A     BCD  E\nlong  x\ns     y    z\n"


def test_a_table_without_rows_is_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [])
    assert capsys.readouterr().out == "A  B\n"
