"""`certwire ca crl`."""

import re
from datetime import timedelta

from shared.clock import utc_now
from tests.support.stack import Stack


async def test_each_time_the_root_signs_the_next_one(stack: Stack) -> None:
    ends = utc_now() + timedelta(days=396)
    for number in (2, 3):
        done = await stack.line.run("ca", "crl")
        assert done.code == 0, done.err
        assert f"CRL        number {number}, 0 revoked\n" in done.out
        assert re.search(rf"^valid .* to {ends:%Y-%m-%d}$", done.out, re.MULTILINE)
        assert "served at  http://127.0.0.1:8080/crl/certwire-root-ca-1\n" in done.out


async def test_says_where_the_embedded_stack_serves_it(stack: Stack) -> None:
    (stack.home / "run").mkdir(exist_ok=True)
    (stack.home / "run" / "ports.json").write_text('{"http": 4711}')
    done = await stack.line.run("ca", "crl")
    assert "served at  http://127.0.0.1:4711/crl/certwire-root-ca-1\n" in done.out


async def test_says_what_is_missing(stack: Stack) -> None:
    (stack.home / "root" / "root.key").unlink()
    done = await stack.line.run("ca", "crl")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("certwire: the root's key is not at ")
