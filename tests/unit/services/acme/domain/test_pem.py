"""PEM blocks, and what stands around them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.acme.domain.pem import Block, blocks


def block(label: str, data: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(data).decode()}-----END {label}-----\n"


@given(
    st.lists(st.tuples(st.sampled_from(["CERTIFICATE", "PRIVATE KEY"]), st.binary(min_size=1))),
    st.text(alphabet=st.characters(exclude_characters="-")),
)
def test_reads_what_stands_between_the_markers_whatever_stands_around(
    written: list[tuple[str, bytes]], around: str
) -> None:
    text = around.join(["", *(block(label, data) for label, data in written), ""])
    assert [(each.label, each.der()) for each in blocks(text)] == written


def test_line_breaks_and_indentation_are_whatever_an_editor_makes_of_them() -> None:
    text = block("CERTIFICATE", bytes(200))
    for changed in (text.replace("\n", "\r\n"), text.replace("\n", "\n    "), text.strip()):
        assert [each.der() for each in blocks(changed)] == [bytes(200)]
    assert [each.der() for each in blocks(text.replace("\n", ""))] == [bytes(200)]


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
        "AAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----END CERTIFICATE-----",
    ],
)
def test_a_marker_without_its_other_is_no_pem(text: str) -> None:
    with pytest.raises(ValueError, match="marker"):
        list(blocks(text))


@pytest.mark.parametrize("body", ["AAA", "A===", "AA-_", "ÄÄÄÄ", "AAAA=AAAA", "Proc-Type: 4"])
def test_what_is_no_base64_holds_nothing(body: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reason is binascii's own
        Block("CERTIFICATE", body).der()


def test_a_text_of_markers_alone_takes_no_longer_than_its_length() -> None:
    text = "-----BEGIN A-----" * 100_000
    with pytest.raises(ValueError, match="marker"):
        list(blocks(text))
    assert not list(blocks("-----BEGIN " * 100_000))


def test_the_body_is_not_in_its_repr() -> None:
    assert "c2VjcmV0" not in repr(Block("PRIVATE KEY", "c2VjcmV0"))
