"""What an account at a DNS provider has: zones with TXT records."""

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from tests.support.pebble import ChallengeDns

Publish = Callable[[str, list[str]], None]
"""Lets a name have exactly these TXT values in the DNS."""


def nowhere(_name: str, _values: list[str]) -> None:
    """Let nobody see the records."""


def into(dns: ChallengeDns) -> Publish:
    """Return what writes into a DNS."""

    def publish(name: str, values: list[str]) -> None:
        dns.clear_txt(name)
        for value in values:
            dns.add_txt(name, value)

    return publish


class Hosting(Protocol):
    """An account as its owner sees it, whatever its API looks like."""

    def host(self, name: str, *, private: bool = False) -> str:
        """Let there be a zone; return its id."""

    def put(self, zone_id: str, name: str, value: str) -> None:
        """Add a record that is not ours."""

    def values(self, name: str) -> list[str]:
        """Return the values of a name in all zones, sorted."""

    def zones_with(self, name: str) -> list[str]:
        """Return the ids of the zones that have records of a name."""


@dataclass
class Record:
    """A TXT record."""

    id: int
    value: str
    ttl: int


@dataclass
class Zone:
    """A zone with its TXT records by name. One that is not active is not delegated to us."""

    id: str
    name: str
    private: bool = False
    active: bool = True
    records: dict[str, list[Record]] = field(default_factory=dict)


class MemoryHosting:
    """Zones in memory."""

    def __init__(self, publish: Publish = nowhere) -> None:
        self.zones: dict[str, Zone] = {}
        self._publish = publish
        self._ids: Iterator[int] = itertools.count(1_000)

    def host(self, name: str, *, private: bool = False, active: bool = True) -> str:
        """Let there be a zone; return its id."""
        zone = Zone(secrets.token_hex(16), name, private, active)
        self.zones[zone.id] = zone
        return zone.id

    def named(self, name: str) -> list[Zone]:
        """Return the zones with a name."""
        return [zone for zone in self.zones.values() if zone.name == name]

    def put(self, zone_id: str, name: str, value: str, ttl: int = 3600) -> None:
        """Add a record."""
        self.add(self.zones[zone_id], name, value, ttl)

    def add(self, zone: Zone, name: str, value: str, ttl: int) -> Record:
        """Add a record to a zone."""
        record = Record(next(self._ids), value, ttl)
        zone.records.setdefault(name, []).append(record)
        self._tell(zone, name)
        return record

    def replace(self, zone: Zone, name: str, records: list[tuple[str, int]]) -> None:
        """Let a name have exactly these values with their TTLs."""
        zone.records[name] = [Record(next(self._ids), value, ttl) for value, ttl in records]
        self._tell(zone, name)

    def delete(self, zone: Zone, record_id: int) -> bool:
        """Delete a record; return whether it was there."""
        for name, records in zone.records.items():
            left = [record for record in records if record.id != record_id]
            if len(left) < len(records):
                zone.records[name] = left
                self._tell(zone, name)
                return True
        return False

    def values(self, name: str) -> list[str]:
        """Return the values of a name in all zones, sorted."""
        return sorted(r.value for zone in self.zones.values() for r in zone.records.get(name, ()))

    def zones_with(self, name: str) -> list[str]:
        """Return the ids of the zones that have records of a name."""
        return [zone.id for zone in self.zones.values() if zone.records.get(name)]

    def _tell(self, zone: Zone, name: str) -> None:
        if zone.active and not zone.private:
            self._publish(name, [record.value for record in zone.records[name]])
