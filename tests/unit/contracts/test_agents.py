"""Tests of contracts.agents: what crosses the bus is well-formed before anybody acts on it."""

from typing import Any

import pytest
from pydantic import ValidationError

from contracts.agents import Capability, CreateAgent, SetCapabilities
from contracts.messages import Call

CALL = Call(request_id="r", deadline=0)


def _create(**fields: Any) -> CreateAgent:  # noqa: ANN401 - any field of the command
    return CreateAgent(**{"call": CALL, "credential": None, "label": "mac", **fields})


def test_an_agent_may_read_tunnels_unless_more_is_said() -> None:
    command = _create()
    assert command.capabilities == (Capability.TUNNELS_READ,)
    assert command.allowed_sites == ()
    assert command.audit_object() == ("agent", "mac")


@pytest.mark.parametrize("label", ["a", "macbook-pro", "9", "a" * 50, "a--b"])
def test_labels_of_the_specification_pass(label: str) -> None:
    assert _create(label=label).label == label


@pytest.mark.parametrize(
    "label", ["", "-a", "a-", "A", "a_b", "a/b", "..", "a" * 51, "a\n", "a\x00", "\u0430", "\u0661"]
)
def test_all_other_labels_are_refused(label: str) -> None:
    with pytest.raises(ValidationError):
        _create(label=label)


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(ValidationError):
        SetCapabilities.model_validate(
            {"call": CALL, "credential": None, "label": "a", "capabilities": ["root"]}
        )
