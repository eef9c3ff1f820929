import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.reply import MalformedReplyError, Reply, parse_reply

WITH_LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n7;name=value\r\n, world\r\n0\r\n\r\n"
)
UNTIL_THE_END = b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nhello"


def test_reads_a_body_of_stated_length() -> None:
    assert parse_reply(WITH_LENGTH, at_end=False) == Reply(200, b"hello")


def test_joins_chunks_and_ignores_their_extensions() -> None:
    assert parse_reply(CHUNKED, at_end=False) == Reply(201, b"hello, world")


def test_ignores_trailers() -> None:
    with_trailer = CHUNKED.removesuffix(b"\r\n") + b"Digest: x\r\n\r\n"
    assert parse_reply(with_trailer, at_end=False) == Reply(201, b"hello, world")


def test_a_body_without_length_lasts_until_the_connection_ends() -> None:
    assert parse_reply(UNTIL_THE_END, at_end=False) is None
    assert parse_reply(UNTIL_THE_END, at_end=True) == Reply(200, b"hello")


def test_a_204_has_no_body() -> None:
    assert parse_reply(b"HTTP/1.1 204 No Content\r\n\r\n", at_end=False) == Reply(204, b"")


@pytest.mark.parametrize("whole", [WITH_LENGTH, CHUNKED])
def test_every_part_of_a_reply_is_incomplete(whole: bytes) -> None:
    for length in range(len(whole)):
        assert parse_reply(whole[:length], at_end=False) is None


@pytest.mark.parametrize("whole", [WITH_LENGTH, CHUNKED])
def test_refuses_a_reply_that_was_cut_off(whole: bytes) -> None:
    for length in range(len(whole)):
        with pytest.raises(MalformedReplyError, match="ended after"):
            parse_reply(whole[:length], at_end=True)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_refuses_what_is_no_reply(data: bytes) -> None:
    with pytest.raises(MalformedReplyError):
        parse_reply(data, at_end=False)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
def test_chunks_of_any_size_come_back_whole(pieces: list[bytes]) -> None:
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded
    assert parse_reply(data, at_end=False) == Reply(200, b"".join(pieces))


@pytest.mark.parametrize(("status", "ok"), [(199, False), (200, True), (204, True), (301, False)])
def test_only_2xx_is_ok(status: int, ok: bool) -> None:  # noqa: FBT001 - a table of cases
    assert Reply(status, b"").ok is ok
