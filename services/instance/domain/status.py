"""The status machine: pending → running ⇄ stopped, any of them → terminated."""

from typing import Final

from contracts.errors import CertwireError, ErrorCode
from contracts.instance import InstanceStatus

_NEXT: Final = {
    InstanceStatus.PENDING: frozenset({InstanceStatus.RUNNING, InstanceStatus.TERMINATED}),
    InstanceStatus.RUNNING: frozenset({InstanceStatus.STOPPED, InstanceStatus.TERMINATED}),
    InstanceStatus.STOPPED: frozenset({InstanceStatus.RUNNING, InstanceStatus.TERMINATED}),
    InstanceStatus.TERMINATED: frozenset[InstanceStatus](),
}
MAY_BOOTSTRAP: Final = frozenset({InstanceStatus.PENDING, InstanceStatus.RUNNING})


def moves(before: InstanceStatus, after: InstanceStatus) -> bool:
    """Return whether the status changes. Raises `INVALID_TRANSITION` where it may not."""
    if before is after:
        return False
    if after not in _NEXT[before]:
        raise CertwireError(
            ErrorCode.INVALID_TRANSITION, f"an instance that is {before} cannot become {after}"
        )
    return True
