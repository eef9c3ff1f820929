"""Refusals on the audit log: one by one up to a budget an address, then counted by the minute."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

BUDGET: Final = 20
"""Refusals of one address that are recorded one by one in a minute."""
ADDRESSES: Final = 10_000
"""Addresses kept in memory; the one unseen for longest makes room."""
WINDOW_SECONDS: Final = 60.0


@dataclass
class _Window:
    began: float
    recorded: int = 0
    actions: dict[str, int] = field(default_factory=dict)


class RefusalBudget:
    """Decides whether a refusal is recorded by itself. Time is given in monotonic seconds."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def spend(self, address: str, action: str, now: float) -> bool:
        """Return whether the refusal gets a record of its own; else it is counted."""
        window = self._windows.get(address)
        if window is None:
            window = self._windows[address] = _Window(now)
        self._windows.move_to_end(address)
        if window.recorded < BUDGET:
            window.recorded += 1
            return True
        window.actions[action] = window.actions.get(action, 0) + 1
        return False

    def collect(self, now: float) -> dict[tuple[str, str], int]:
        """Return and forget what was counted, by (address, action), in windows that ended."""
        counted: dict[tuple[str, str], int] = {}
        ended = [a for a, w in self._windows.items() if now - w.began >= WINDOW_SECONDS]
        surplus = list(self._windows)[: max(0, len(self._windows) - ADDRESSES)]
        for address in dict.fromkeys(ended + surplus):
            window = self._windows.pop(address)
            counted |= {(address, action): n for action, n in window.actions.items()}
        return counted
