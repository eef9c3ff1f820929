"""`certwire onboarding complete`."""

from tests.support.stack import Stack


async def test_onboarding_is_completed_again_and_again(stack: Stack) -> None:
    async with stack.services():
        for _ in range(2):
            done = await stack.line.run("onboarding", "complete")
            assert (done.code, done.out) == (0, "onboarding is completed\n"), done.err
    onboarding = await stack.tables.values("SELECT onboarding FROM registry.platform")
    assert onboarding == ["COMPLETED"]
