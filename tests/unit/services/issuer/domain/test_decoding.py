"""DER is read as X.690 has it, and nothing else is."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.issuer.domain.decoding import INTEGER, OCTET_STRING, SEQUENCE, Reader
from services.issuer.domain.encoding import integer, octet_string, sequence


@given(st.lists(st.one_of(st.integers(0, 2**200), st.binary(max_size=400)), max_size=8))
def test_reads_back_what_was_encoded(values: list[int | bytes]) -> None:
    encoded = [integer(one) if isinstance(one, int) else octet_string(one) for one in values]
    whole = Reader(sequence(*encoded))
    inside = whole.inside(SEQUENCE)
    whole.finish()
    for value, der in zip(values, encoded, strict=True):
        again = Reader(der)
        if isinstance(value, int):
            assert inside.next_is(INTEGER)
            assert inside.integer() == again.integer() == value
        else:
            assert inside.next_is(OCTET_STRING)
            assert inside.content(OCTET_STRING) == again.content(OCTET_STRING) == value
    assert not inside.more
    inside.finish()


@given(st.binary(max_size=60))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    for read in (Reader.integer, _read_all):
        with suppress(ValueError):
            read(Reader(data))


@pytest.mark.parametrize(
    "data",
    [
        "",
        "04",
        "0402ff",  # cut off
        "0481",  # without its length
        "04810100",  # 1 in the long form
        "0482000100",  # a leading zero
        "0480ffff0000",  # the indefinite form
        "04840000000100",  # a length of four octets
        "0481ff00",  # longer than what there is
        "0201",
        "020100ff",  # more than there should be
    ],
)
def test_refuses_what_is_not_der(data: str) -> None:
    reader = Reader(bytes.fromhex(data))
    with pytest.raises(ValueError, match=r"."):
        _read_all(reader)


def _read_all(reader: Reader) -> None:
    if reader.next_is(INTEGER):
        reader.integer()
    else:
        reader.content(OCTET_STRING)
    reader.finish()


@pytest.mark.parametrize("data", ["0200", "02020001", "0202ff80", "020200007f"])
def test_refuses_integers_that_are_too_long(data: str) -> None:
    with pytest.raises(ValueError, match="INTEGER"):
        Reader(bytes.fromhex(data)).integer()


@pytest.mark.parametrize(("data", "value"), [("020100", 0), ("0201ff", -1), ("02020080", 128)])
def test_reads_integers_in_their_shortest_form(data: str, value: int) -> None:
    assert Reader(bytes.fromhex(data)).integer() == value
