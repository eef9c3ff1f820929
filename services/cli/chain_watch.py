"""Whether the audit records that are printed form unbroken chains."""

from collections import OrderedDict
from typing import Final

from contracts.audit import GENESIS_HASH
from services.audit.domain.verification import Genuine

REMEMBERED: Final = 10_000
"""Hashes by which a record that comes again is told from another one at its place."""


class ChainWatch:
    """Looks at records in the order in which they come; begins anywhere in a chain."""

    def __init__(self) -> None:
        self._hashes: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def observe(self, genuine: Genuine) -> tuple[bool, list[str]]:
        """Return whether the record is new here, and what is wrong with its place."""
        service, sequence = genuine.place
        first = self._first.setdefault(service, sequence)
        known = self._hashes.get(genuine.place)
        if known is not None or sequence < first:
            other = known is not None and known != genuine.record.hash
            return other, [f"{service}#{sequence} is there twice, and differs"] if other else []
        problems = self._gap(service, sequence) + self._links(genuine)
        self._remember(genuine)
        return True, problems

    def _gap(self, service: str, sequence: int) -> list[str]:
        last = self._last.get(service, sequence - 1)
        self._last[service] = max(last, sequence)
        if sequence <= last + 1:
            return []
        missing = f"{service}#{last + 1}"
        if sequence > last + 2:
            missing += f" to {service}#{sequence - 1}"
        return [f"{missing} missing before {service}#{sequence}"]

    def _links(self, genuine: Genuine) -> list[str]:
        service, sequence = genuine.place
        before = self._hashes.get((service, sequence - 1))
        if sequence == 1:
            before = GENESIS_HASH
        if before not in (None, genuine.record.previous_hash):
            return [f"{service}#{sequence} does not follow the record before it"]
        return []

    def _remember(self, genuine: Genuine) -> None:
        self._hashes[genuine.place] = genuine.record.hash
        if len(self._hashes) > REMEMBERED:
            self._hashes.popitem(last=False)
