"""Record sets that a provider changes as a whole, and only where they are what we have read.

1. The set is read, and the one that is wanted is made of it: other values stay as they are.
2. The provider is told both. It refuses where the set has changed meanwhile.
3. Then all of it is done again: nobody's values are lost, and of those who meet, one gets through.
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.acme.dns.api import Api
from services.acme.dns.names import zone_candidates
from services.acme.dns.provider import DnsProviderError

TTL_SECONDS: Final = 1
"""The APIs take 0, too, which some resolvers read as a mistake."""
ATTEMPTS: Final = 12
STUBBORN: Final = 3
"""After so many refusals of a change to one and the same set there is another reason for them."""
PAUSE_SECONDS: Final = 0.25
"""At the most after the first refusal; it grows with every other."""


@dataclass(frozen=True, slots=True)
class TxtSet:
    """The TXT records of a name; values in the provider's own form."""

    ttl: int
    values: tuple[str, ...]


Change = Callable[[TxtSet | None], TxtSet | None]
"""From a set to the one that is wanted; None is none at all."""


class ChangedError(Exception):
    """The set is not what it was when it was read, it seems. The text is the provider's own."""


def adding(value: str, ttl: int) -> Change:
    """Return the change that lets a value be there."""

    def change(found: TxtSet | None) -> TxtSet | None:
        if found is None:
            return TxtSet(ttl, (value,))
        return found if value in found.values else TxtSet(ttl, (*found.values, value))

    return change


def removing(value: str) -> Change:
    """Return the change that lets a value be gone."""

    def change(found: TxtSet | None) -> TxtSet | None:
        if found is None or value not in found.values:
            return found
        left = tuple(other for other in found.values if other != value)
        return TxtSet(found.ttl, left) if left else None

    return change


class RecordSets(ABC):
    """A provider of record sets of type TXT; values are in quotes there."""

    _api: Api

    async def add(self, name: str, value: str) -> None:
        """Merge the value into the set of every public zone of the longest name."""
        await self._change(name, adding(f'"{value}"', TTL_SECONDS))

    async def remove(self, name: str, value: str) -> None:
        """Take the value out of the sets."""
        await self._change(name, removing(f'"{value}"'))

    @abstractmethod
    async def public_zones(self, name: str) -> list[str]:
        """Return the ids of the public zones with a name; only its delegation knows which counts.

        Raises `DnsProviderError`.
        """

    @abstractmethod
    async def read(self, zone: str, name: str) -> TxtSet | None:
        """Return the set. Raises `DnsProviderError`."""

    @abstractmethod
    async def replace(self, zone: str, name: str, old: TxtSet | None, new: TxtSet | None) -> None:
        """Put a set in the place of another. Raises `ChangedError` and `DnsProviderError`."""

    async def _change(self, name: str, change: Change) -> None:
        for candidate in zone_candidates(name):
            if zones := await self.public_zones(candidate):
                break
        else:
            raise self._api.no_zone(name)
        for zone in zones:
            await apply(self, zone, name, change)


async def apply(sets: RecordSets, zone: str, name: str, change: Change) -> None:
    """Change a set. Raises `DnsProviderError`."""
    before: list[TxtSet | None] = []
    for attempt in range(ATTEMPTS):
        found = await sets.read(zone, name)  # 1
        wanted = change(found)
        if wanted == found:
            return
        try:
            await sets.replace(zone, name, found, wanted)  # 2
        except ChangedError as refusal:
            before.append(found)
            if before[-STUBBORN:] == [found] * STUBBORN:
                raise DnsProviderError(f"the records of {name} cannot be set: {refusal}") from None
            await asyncio.sleep(PAUSE_SECONDS * (attempt + 1) * random.random())  # noqa: S311 - 3: so that those who met part
        else:
            return
    raise DnsProviderError(f"others keep changing the records of {name}", transient=True)
