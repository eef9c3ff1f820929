"""Cursors: what was made is read again, anything else is the caller's mistake."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import CertwireError, ErrorCode
from shared.cursors import decode, decode_all, encode, encode_all
from tests.support.outcomes import refused


@given(st.integers(0, 2**63 - 1))
def test_a_position_is_read_again(position: int) -> None:
    cursor = encode(position)
    assert cursor is not None
    assert cursor.isascii()
    assert decode(cursor) == position


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4))
def test_several_positions_are_read_again_and_not_as_fewer(positions: list[int]) -> None:
    cursor = encode_all(*positions)
    assert decode_all(cursor, len(positions)) == tuple(positions)
    with refused(ErrorCode.INVALID_REQUEST):
        decode_all(cursor, len(positions) - 1)


def test_the_first_page_has_no_cursor_and_the_last_gives_none() -> None:
    assert decode(None) is None
    assert encode(None) is None


@pytest.mark.parametrize(
    "cursor", ["", "1", "x" * 11 + "\n", "________8", "é", "AAAAAAAAAAAA", "A" * 10_000, "-" * 11]
)
def test_what_was_never_made_is_refused(cursor: str) -> None:
    with refused(ErrorCode.INVALID_REQUEST):
        decode(cursor)


@given(st.text(max_size=14))
def test_nothing_but_a_refusal_or_a_position_comes_out(cursor: str) -> None:
    with suppress(CertwireError):
        position = decode(cursor)
        assert position is not None
        assert 0 <= position < 2**63
