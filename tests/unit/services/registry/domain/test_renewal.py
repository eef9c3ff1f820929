"""What becomes of a renewal: every case that the agent's row and two certificates can be in."""

from datetime import timedelta

import pytest

from contracts.errors import ErrorCode
from contracts.principal import Principal, PrincipalKind
from services.registry.domain.renewal import SETTLED_AFTER, Presented, Step, next_step
from tests.support.outcomes import refused

AGENT = Principal(kind=PrincipalKind.AGENT, id="1", name="mac")
OURS, OTHER = "0" * 64, "1" * 64
NOW, LATER = timedelta(0), SETTLED_AFTER


def presented(
    successor: str | None = None,
    age: timedelta | None = None,
    *,
    accepted: bool = True,
    pending: bool = False,
) -> Presented:
    return Presented(accepted, successor, age, pending)


@pytest.mark.parametrize(
    ("known", "step"),
    [
        (presented(), Step.SIGN),
        (presented(pending=True), Step.WAIT),
        # superseded, its successor not used yet
        (presented(OURS, NOW), Step.REPEAT),
        (presented(OURS, LATER), Step.REPEAT),
        (presented(OTHER, NOW), Step.WAIT),
        (presented(OTHER, LATER), Step.SIGN),
        (presented(OURS, LATER, pending=True), Step.WAIT),
        (presented(OTHER, LATER, pending=True), Step.WAIT),
        # ended: nothing but the lost reply
        (presented(OURS, LATER, accepted=False), Step.REPEAT),
        (presented(OURS, LATER, accepted=False, pending=True), Step.REPEAT),
    ],
)
def test_each_case_has_its_step(known: Presented, step: Step) -> None:
    assert next_step(known, OURS, AGENT) is step


@pytest.mark.parametrize(
    "known",
    [
        presented(accepted=False),
        presented(accepted=False, pending=True),
        presented(OTHER, LATER, accepted=False),
        presented(None, LATER, accepted=False),
    ],
)
def test_what_has_ended_gets_nothing_new(known: Presented) -> None:
    with refused(ErrorCode.CREDENTIAL_REFUSED) as error:
        next_step(known, OURS, AGENT)
    assert error.value.actor == AGENT
