"""Sealed values open under their key, in their row, unaltered, and nowhere else."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.secrets import Sealer, UnsealError, key_ids, new_key, token_hash

ROW = "issuer.ca.private_key:3"
SEALER = Sealer.from_text(new_key())


@given(st.binary(max_size=300), st.text(max_size=40))
def test_what_was_sealed_opens(plaintext: bytes, row: str) -> None:
    try:
        row.encode()
    except UnicodeEncodeError:
        return
    assert SEALER.open(SEALER.seal(plaintext, row), row) == plaintext


def test_the_same_value_is_never_sealed_the_same_way_twice() -> None:
    assert len({SEALER.seal(b"secret", ROW) for _ in range(100)}) == 100


def test_the_plaintext_does_not_show() -> None:
    assert b"secret" not in SEALER.seal(b"secret" * 10, ROW)


def test_it_opens_in_no_other_row() -> None:
    sealed = SEALER.seal(b"secret", ROW)
    with pytest.raises(UnsealError):
        SEALER.open(sealed, "issuer.ca.private_key:4")


def test_every_byte_is_authenticated() -> None:
    sealed = SEALER.seal(b"secret", ROW)
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(UnsealError):
            SEALER.open(bytes(altered), ROW)


@pytest.mark.parametrize("length", [0, 1, 8, 9, 68, 80, 81])
def test_what_is_cut_short_does_not_open(length: int) -> None:
    with pytest.raises(UnsealError):
        SEALER.open(SEALER.seal(b"", ROW)[:length], ROW)


def test_data_keys_of_two_rows_cannot_be_swapped() -> None:
    one, other = SEALER.seal(b"one", "a:1"), SEALER.seal(b"other", "a:2")
    with pytest.raises(UnsealError):
        SEALER.open(one[:69] + other[69:], "a:2")


def test_after_rotation_the_old_opens_and_the_new_seals() -> None:
    old, new = new_key(), new_key()
    before = Sealer.from_text(old).seal(b"secret", ROW)
    rotated = Sealer.from_text(f"{new}\n{old}\n")
    assert rotated.open(before, ROW) == b"secret"
    assert Sealer.from_text(new).open(rotated.seal(b"later", ROW), ROW) == b"later"
    with pytest.raises(UnsealError, match=f"lacks the key {key_ids(old)[0]}"):
        Sealer.from_text(new).open(before, ROW)


def test_keys_are_changed_while_it_is_in_use() -> None:
    old, new = new_key(), new_key()
    text = old
    sealer, others = Sealer.reading(lambda: text), Sealer.from_text(f"{new}\n{old}")
    before, elsewhere = sealer.seal(b"before", ROW), others.seal(b"elsewhere", ROW)
    with pytest.raises(UnsealError):
        sealer.open(elsewhere, ROW)
    text = f"{new}\n{old}"
    assert sealer.open(elsewhere, ROW) == b"elsewhere"  # it met a key that it did not know
    text = f"{old}\n{new}"
    assert Sealer.from_text(old).open(sealer.seal(b"", ROW), ROW) == b""  # and seals as it is told
    text = f"{new}\n{old}"
    assert Sealer.from_text(new).open(sealer.seal(b"", ROW), ROW) == b""
    assert (sealer.current, set(sealer.known)) == (key_ids(new)[0], {*key_ids(f"{new} {old}")})
    assert sealer.open(before, ROW) == b"before"


def test_keys_that_cannot_be_read_for_a_moment_stay_known() -> None:
    text: str | None = new_key()

    def read() -> str:
        if text is None:
            raise FileNotFoundError
        return text

    sealer = Sealer.reading(read)
    for unreadable in (None, "", "half a ke"):
        text = unreadable
        assert sealer.open(sealer.seal(b"secret", ROW), ROW) == b"secret"


def test_rewrapping_changes_the_key_and_nothing_else() -> None:
    old, new = new_key(), new_key()
    before = Sealer.from_text(old).seal(b"secret", ROW)
    after = Sealer.from_text(f"{new}\n{old}").rewrap(before, ROW)
    assert after[1:9].hex() == key_ids(new)[0]
    assert after[69:] == before[69:]  # nonce and ciphertext
    assert Sealer.from_text(new).open(after, ROW) == b"secret"
    with pytest.raises(UnsealError):
        Sealer.from_text(f"{new}\n{old}").rewrap(before, "issuer.ca.sealed_key:2")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "short",
        base64.b64encode(b"x" * 31).decode(),
        base64.b64encode(b"x" * 32).decode() + "\nrubbish!",
        "ключ",
    ],
)
def test_a_key_that_is_none_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match=r"32 bytes|ASCII"):
        Sealer.from_text(text)


def test_no_error_tells_the_key() -> None:
    key = base64.b64encode(b"k" * 31).decode()
    with pytest.raises(ValueError, match="32 bytes") as caught:
        Sealer.from_text(key)
    assert key not in str(caught.value)


def test_a_token_is_stored_as_its_sha_256() -> None:
    assert token_hash("token") == hashlib.sha256(b"token").hexdigest()
