"""What makes an audit record true, and where it belongs.

1. `examine` looks at a message alone: its form, its subject, its own hash.
2. `place` looks at its place: the record after the last one that is kept, linked to it by
   `previous_hash`. One that was kept already is a duplicate, one from further on waits.

What fails is a violation: it is quarantined, and the place in the chain stays empty for the true
record.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pydantic import JsonValue, ValidationError

from contracts.audit import GENESIS_HASH, AuditRecord, canonical_record
from contracts.subjects import Service, audit_record

SERVICES: Final = frozenset(Service)


class Reason(StrEnum):
    """Why a record is not believed."""

    MALFORMED = "malformed"
    WRONG_SUBJECT = "wrong_subject"
    """It came on a subject that another service, or another action, may publish to."""
    WRONG_HASH = "wrong_hash"
    WRONG_LINK = "wrong_link"
    """Its `previous_hash` is not the hash of the record before it."""
    PLACE_TAKEN = "place_taken"
    """Another record of the same service and sequence is kept already."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as the stream delivered it."""

    subject: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Violation:
    """A message that is not believed; `service` and `sequence` are what it claims to be."""

    arrival: Arrival
    reason: Reason
    service: str | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Genuine:
    """A record that is what it says; `text` is its canonical JSON."""

    arrival: Arrival
    record: AuditRecord
    text: str

    @property
    def place(self) -> tuple[str, int]:
        """Return where it belongs."""
        return self.record.service, self.record.sequence


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a service that is kept."""

    sequence: int = 0
    hash: str = GENESIS_HASH


@dataclass(slots=True)
class Placement:
    """What becomes of some records."""

    kept: list[Genuine] = field(default_factory=list)
    early: list[Genuine] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    duplicates: int = 0
    heads: dict[str, Head] = field(default_factory=dict)
    """All heads, as they are once `kept` is."""


def examine(arrival: Arrival) -> Genuine | Violation:
    """Look at a message alone."""
    try:
        body: JsonValue = json.loads(arrival.payload)
        record = AuditRecord.model_validate_json(arrival.payload, strict=True)
        if not isinstance(body, dict) or record.sequence < 1 or record.time.tzinfo is None:
            return Violation(arrival, Reason.MALFORMED)
        text, own_hash = canonical_record(body)
    except (ValidationError, ValueError, RecursionError):
        return Violation(arrival, Reason.MALFORMED)
    if record.service not in SERVICES or arrival.subject != audit_record(
        Service(record.service), record.action
    ):
        return Violation(arrival, Reason.WRONG_SUBJECT, record.service, record.sequence)
    if own_hash != record.hash:
        return Violation(arrival, Reason.WRONG_HASH, record.service, record.sequence)
    return Genuine(arrival, record, text)


def place(
    heads: Mapping[str, Head], kept: Mapping[tuple[str, int], str], arrived: Iterable[Genuine]
) -> Placement:
    """Put records where they belong.

    `kept` has the hashes of the records that are kept, for all arrived ones up to their heads.
    """
    placement = Placement(heads=dict(heads))
    known = dict(kept)
    early: dict[tuple[str, int], Genuine] = {}
    for genuine in arrived:
        following: Genuine | None = genuine
        while following is not None:
            service, sequence = following.place
            head = placement.heads.get(service, Head())
            if sequence <= head.sequence:
                _compare(placement, following, known.get(following.place))
                break
            if sequence > head.sequence + 1:
                if (other := early.get(following.place)) is None:
                    early[following.place] = following
                else:
                    _compare(placement, following, other.record.hash)
                break
            if following.record.previous_hash != head.hash:
                placement.violations.append(_violation(following, Reason.WRONG_LINK))
                break
            placement.kept.append(following)
            placement.heads[service] = Head(sequence, following.record.hash)
            known[following.place] = following.record.hash
            following = early.pop((service, sequence + 1), None)
    placement.early = list(early.values())
    return placement


def _compare(placement: Placement, genuine: Genuine, known_hash: str | None) -> None:
    if genuine.record.hash == known_hash:
        placement.duplicates += 1
    else:
        placement.violations.append(_violation(genuine, Reason.PLACE_TAKEN))


def _violation(genuine: Genuine, reason: Reason) -> Violation:
    return Violation(genuine.arrival, reason, *genuine.place)
