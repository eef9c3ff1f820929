"""Refusals on the audit log: one by one up to a budget, then counted by the minute."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

BUDGET: Final = 60
"""Refusals of an address's unknown callers that are recorded one by one in a minute."""
KNOWN_BUDGET: Final = 600
"""The same for a caller that is known by name: it can be held to account."""
CALLERS: Final = 10_000
"""Callers kept in memory; the one unseen for longest makes room."""
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

    def spend(self, caller: str, action: str, now: float, budget: int = BUDGET) -> bool:
        """Return whether the refusal gets a record of its own; else it is counted.

        `caller` is an address, or a known caller's name.
        """
        window = self._windows.get(caller)
        if window is None:
            window = self._windows[caller] = _Window(now)
        self._windows.move_to_end(caller)
        if window.recorded < budget:
            window.recorded += 1
            return True
        window.actions[action] = window.actions.get(action, 0) + 1
        return False

    def collect(self, now: float) -> dict[tuple[str, str], int]:
        """Return and forget what was counted, by (caller, action), in windows that ended."""
        counted: dict[tuple[str, str], int] = {}
        ended = [a for a, w in self._windows.items() if now - w.began >= WINDOW_SECONDS]
        surplus = list(self._windows)[: max(0, len(self._windows) - CALLERS)]
        for caller in dict.fromkeys(ended + surplus):
            window = self._windows.pop(caller)
            counted |= {(caller, action): n for action, n in window.actions.items()}
        return counted
