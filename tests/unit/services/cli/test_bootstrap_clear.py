"""`certwire bootstrap clear`."""

from tests.support.stack import Stack


async def test_the_bootstrap_secrets_are_removed(stack: Stack) -> None:
    assert (stack.home / "bootstrap").is_dir()
    for _ in range(2):
        assert (await stack.line.run("bootstrap", "clear")).code == 0
        assert not (stack.home / "bootstrap").exists()
