"""Tests of services.instance.domain.wireguard."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.instance.domain import wireguard

KEY = bytes(range(1, 33))
TEXT = base64.b64encode(KEY).decode()


@given(st.binary(min_size=32, max_size=32).filter(any))
def test_every_key_has_one_text(key: bytes) -> None:
    assert wireguard.decode(wireguard.encode(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "string",
        base64.b64encode(bytes(32)).decode(),  # all zero
        base64.b64encode(KEY[:31]).decode(),
        base64.b64encode(KEY + b"x").decode(),
        TEXT[:-2] + chr(ord(TEXT[-2]) + 1) + "=",  # the same 32 bytes, other unused bits
        TEXT.rstrip("="),
        TEXT + "\n",
        " " + TEXT,
        TEXT.replace("A", "\u0410"),  # a Cyrillic letter
        "\ud800" + TEXT,
        TEXT[:20] + "\x00" + TEXT[20:],
    ],
)
def test_refuses_all_other_texts(text: str) -> None:
    assert wireguard.decode(text) is None


def test_equality_needs_a_key() -> None:
    assert wireguard.equal(KEY, KEY)
    assert not wireguard.equal(KEY, bytes(31) + b"x")
    assert not wireguard.equal(KEY, None)
