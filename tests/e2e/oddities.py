"""What no client should send: bodies that are hardly JSON, and values that fit nowhere."""

import json

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
