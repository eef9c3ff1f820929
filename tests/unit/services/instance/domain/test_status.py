"""Tests of services.instance.domain.status."""

import itertools

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import InstanceStatus
from services.instance.domain.status import moves

ALLOWED = {
    ("pending", "running"),
    ("running", "stopped"),
    ("stopped", "running"),
    ("pending", "terminated"),
    ("running", "terminated"),
    ("stopped", "terminated"),
}


@pytest.mark.parametrize(
    ("before", "after"), list(itertools.product(InstanceStatus, InstanceStatus)), ids=str
)
def test_the_whole_machine(before: InstanceStatus, after: InstanceStatus) -> None:
    if before is after:
        assert not moves(before, after)
    elif (str(before), str(after)) in ALLOWED:
        assert moves(before, after)
    else:
        with pytest.raises(CertwireError) as refused:
            moves(before, after)
        assert refused.value.code is ErrorCode.INVALID_TRANSITION
