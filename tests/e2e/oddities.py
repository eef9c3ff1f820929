"""What no client should send: bodies that are hardly JSON, and values that fit nowhere."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from tests.support.platform import Platform

DEEP = "[" * 5000 + "]" * 5000
TEXTS = (
    "",
    "\0",
    "x\0y",
    "\ud800",  # a lone surrogate: travels as an escape
    "\udfff\ud800",
    "x" * 5000,
    "\u202egnp.exe",
    "10.\u0660.\u0660.\u0661",  # digits of another script
    "10.999.1.1",
    "10.1.1.1\n",
    "A" * 43 + "=",
    "B" * 42 + "B=",
    "' OR 1=1 --",
    "$1; DROP TABLE instance; --",
    "../../../../etc/passwd",
    "%s%n{0}${jndi:ldap://x}",
    "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 200 + "\n-----END CERTIFICATE REQUEST-----\n",
)
VALUES: tuple[object, ...] = (
    *TEXTS,
    None,
    True,
    0,
    -1,
    2**63,
    2**70,
    10**4000,
    1.5,
    1e308,
    [],
    {},
    [[]],
    {"\0": "\0"},
    {"\ud800": 1},
    {"": {"": {"": ""}}},
    [{"a": 2**64}],
)
BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"7",
    "text": b'"text"',
    "null": b"null",
    "deep": DEEP.encode(),
    "deep in an object": b'{"agent_secrets": {"a": ' + DEEP.encode() + b"}}",
    "the same name twice": b'{"status": "running", "status": "terminated", "name": 1, "name": 2}',
    "NaN": b'{"agent_secrets": {"a": NaN}, "name": Infinity}',
    "too large a number": b'{"agent_secrets": {"a": 1e999}}',
    "no UTF-8": b'{"name": "\xff\xfe"}',
    "half a character": b'{"name": "\xf0\x9f"}',
    "an overlong NUL": b'{"name": "\xc0\x80"}',
    "a byte order mark": b'\xef\xbb\xbf{"name": "x"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "NUL bytes": b"\0" * 64,
    "comments": b'{"name": "x" /* comment */}',
    "over a megabyte": b'{"name": "' + b"x" * (1 << 20) + b'"}',
    "many names": json.dumps({f"field {n}": n for n in range(20_000)}).encode(),
}
NO_JSON_TYPES = (
    "",
    "text/plain",
    "application/jsonx",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/html, application/json",
)
"""Media types of which no body is read."""
NO_IDEMPOTENCY_KEYS = ("", "x" * 256, "a b", "a\tb")
NO_NAMES = (
    "%00",
    "a%00",
    "a%0a",
    "a%0d%0aSet-Cookie:%20a=b",
    "a%20b",
    "a%09",
    "a%7f",
    "a%e2%80%ae",  # right to left from here
    "a%ff",
    "%D9%A1",  # the digit one, in Arabic
    "%EF%BC%91",  # and in full width
    "%C3%A9",
    "A",
    "a_b",
    "a.b",
    "-a",
    "a-",
    "a" * 50_000,
    "%2e%2e",
    "..%5c..%5cetc",
    "a;b",
    "a:b",
    "%",
    "%zz",
    "*",
    "'%20OR%201=1--",
    "$(id)",
)
"""Segments of paths that are no labels of DNS."""
NO_SEGMENTS = ("..%2f..%2fetc%2fpasswd", "a%2fb", "%2f", "a%2f")
"""Decoded, these are no longer one segment of a path."""
NESTED = json.loads("[" * 60 + "]" * 60)
ANSWER_SECONDS = 5
"""Far above what any answer takes, far below a client's patience."""


def twice(body: dict[str, Any]) -> Iterator[bytes]:
    """Return a body with each of its names once more."""
    for name, value in body.items():
        yield (json.dumps(body)[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}").encode()


def refusal_in(response: httpx2.Response) -> Any:  # noqa: ANN401 - any JSON
    """Check what holds of an answer in every dialect; return a refusal's body, else None."""
    assert response.elapsed.total_seconds() < ANSWER_SECONDS, response
    if response.is_success:
        return None
    assert 400 <= response.status_code < 500, (response, response.text)
    assert response.headers["content-type"] == "application/json"
    assert not re.search(r"Traceback|File \\?\"|pydantic|asyncpg", response.text), response.text
    said = response.json()
    assert isinstance(said["error"], str)
    assert said["error"]
    return said


@contextmanager
def no_error_is_logged(platform: Platform, *secrets: str) -> Iterator[None]:
    """Check that no service logs an error of its own meanwhile, or a secret."""
    logs = {path: path.stat().st_size for path in platform.logs.glob("*.log")}
    yield
    for path, size in logs.items():
        with path.open("rb") as log:
            log.seek(size)
            written = log.read()
        assert b"Traceback" not in written, (path.name, written[-4000:])
        assert not re.search(rb'"level": ?"(error|critical)"', written), (path.name, written)
        assert not [secret for secret in secrets if secret.encode() in written], path.name
