"""JSON has one meaning or none."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.json_body import DEPTH_LIMIT, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | TEXT
VALUES = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children) | st.dictionaries(TEXT, children),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_reads_what_was_written(value: Any, ascii_only: bool) -> None:  # noqa: ANN401, FBT001 - made by hypothesis
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary())
def test_refuses_with_one_kind_of_error(body: bytes) -> None:
    with suppress(json.JSONDecodeError):
        parse(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_nesting_has_an_end(opening: bytes) -> None:
    levels = opening.count(b"[") + opening.count(b"{")
    closing = opening.translate(bytes.maketrans(b"[{", b"]}"), b'"a:')[::-1]

    def nested(times: int) -> bytes:
        return opening * times + b"1" + closing * times

    parse(nested(DEPTH_LIMIT // levels))
    for times in (DEPTH_LIMIT // levels + 1, 900 // levels, 100_000):
        with pytest.raises(json.JSONDecodeError, match="deeply"):
            parse(nested(times))


def test_a_wide_value_is_not_deep() -> None:
    assert parse(json.dumps([[{}]] * 1000).encode()) == [[{}]] * 1000


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a": 1, "a": 1}', "Duplicate"),
        (b'{"a": 1, "\\u0061": 2}', "Duplicate"),
        (b"NaN", "Not a JSON number"),
        (b"[Infinity]", "Not a JSON number"),
        (b"1e400", "out of range"),
        (b"-1e400", "out of range"),
        (b"1" * 5000, "integer string"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b'\xff\xfe"\x00a\x00"\x00', "UTF-8"),
        (b'\xef\xbb\xbf""', "Expecting value"),
        (b"1 2", "Extra data"),
    ],
)
def test_refuses_what_readers_differ_about(body: bytes, words: str) -> None:
    with pytest.raises(json.JSONDecodeError, match=words):
        parse(body)


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert parse(b'"\\ud83d\\udd11"') == "\U0001f511"
