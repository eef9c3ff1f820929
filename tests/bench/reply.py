"""As much of an HTTP/1.1 reply as a load generator needs: is it complete, its status, its body."""

from dataclasses import dataclass

HEAD_END = b"\r\n\r\n"


class MalformedReplyError(ValueError):
    """What came back is not one whole HTTP/1.1 reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def parse_reply(data: bytes, *, at_end: bool) -> Reply | None:
    """The reply in `data`, or None while it is incomplete; `at_end` says that no more will come."""
    reply = _parse(data, at_end=at_end)
    if reply is None and at_end:
        raise MalformedReplyError(f"the connection ended after {len(data)} bytes of a reply")
    return reply


def _parse(data: bytes, *, at_end: bool) -> Reply | None:
    head, separator, rest = data.partition(HEAD_END)
    if not separator:
        return None
    status_line, *lines = head.split(b"\r\n")
    status = _status(status_line)
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in lines)
    }
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = _dechunk(rest)
    elif status == 204:
        body = b""
    elif b"content-length" in headers:
        length = _number(headers[b"content-length"], 10)
        body = rest[:length] if len(rest) >= length else None
    else:
        body = rest if at_end else None
    return None if body is None else Reply(status, body)


def _status(line: bytes) -> int:
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise MalformedReplyError(f"not a status line: {line[:80]!r}")
    return _number(rest[:3], 10)


def _dechunk(rest: bytes) -> bytes | None:
    """The body of RFC 9112 §7.1 chunks, or None while they are incomplete. Trailers are ignored."""
    body = bytearray()
    while True:
        line, separator, rest = rest.partition(b"\r\n")
        if not separator:
            return None
        size = _number(line.partition(b";")[0], 16)
        if size == 0:
            return bytes(body) if rest == b"\r\n" or HEAD_END in rest else None
        if len(rest) < size + 2:
            return None
        if rest[size : size + 2] != b"\r\n":
            raise MalformedReplyError("a chunk is longer than it says")
        body += rest[:size]
        rest = rest[size + 2 :]


def _number(text: bytes, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        raise MalformedReplyError(f"not a number: {text[:40]!r}") from None
    if number < 0:
        raise MalformedReplyError(f"not a length: {text[:40]!r}")
    return number
