"""`certwire migrate`."""

from tests.support.stack import Stack


async def test_migrate_says_what_it_did(stack: Stack) -> None:
    done = await stack.line.run("migrate")
    assert done.code == 0, done.err
    assert "registry: up to date" in done.out.splitlines()
