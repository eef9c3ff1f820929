"""The audit record: its form, its canonical bytes and its hash. Changes by addition only."""

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from contracts.messages import Message, Sha256Hex
from contracts.principal import Principal

_CANONICAL: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)
_ALWAYS_EXACT: Final = frozenset({str, bool, type(None)})
GENESIS_HASH: Final = "0" * 64
"""`previous_hash` of a service's first record."""


class Outcome(StrEnum):
    SUCCESS = "success"
    REFUSED = "refused"
    FAILED = "failed"


class Actor(Message):
    """Who did it."""

    model_config = ConfigDict(extra="allow")

    kind: str
    id: str
    name: str
    fingerprint: str | None = None
    organization_id: int | None = None

    @classmethod
    def of(cls, principal: Principal) -> "Actor":
        """Return the principal as an actor."""
        return cls(
            kind=principal.kind,
            id=principal.id,
            name=principal.name,
            fingerprint=principal.fingerprint,
            organization_id=principal.organization_id,
        )


class AuditObject(Message):
    """What it was done to."""

    model_config = ConfigDict(extra="allow")

    type: str
    id: str
    name: str
    organization_id: int | None = None


class AuditEntry(Message):
    """An audit record before its place in the chain: what a service writes in its transaction.

    `action` is `<noun>_<verb>`; `detail` never holds a secret, and only what canonical JSON keeps
    exactly: no fractions.
    """

    id: str
    service: str
    time: datetime
    actor: Actor
    action: str = Field(pattern=r"^[a-z][a-z0-9_]*$")  # it is a part of the record's subject
    object: AuditObject
    outcome: Outcome
    detail: dict[str, JsonValue] = Field(default_factory=dict)
    request_id: str


class AuditRecord(BaseModel):
    """An audit record as it stands in the stream. Unknown fields are kept: they are hashed too."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    service: str
    sequence: int
    time: datetime
    actor: Actor
    action: str
    object: AuditObject
    outcome: Outcome
    detail: dict[str, JsonValue]
    request_id: str
    previous_hash: Sha256Hex
    hash: Sha256Hex


def canonical_json(value: JsonValue) -> bytes:
    """Return the canonical form of RFC 8785 for values without fractions.

    Object names must be ASCII: then sorting by code points is sorting by UTF-16 units. Raises
    ValueError for fractions and for integers that a double cannot hold exactly.
    """
    _refuse_inexact(value)
    return _CANONICAL.encode(value).encode()


def _refuse_inexact(value: JsonValue) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if not name.isascii():
                raise ValueError("a canonical object name is ASCII")
            if type(item) not in _ALWAYS_EXACT:  # most are: spare the call
                _refuse_inexact(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_inexact(item)
    elif isinstance(value, float):
        raise ValueError("a canonical number is an integer")  # noqa: TRY004 - a value, not a type
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        raise ValueError("a canonical integer is below 2^53")


def chain(entry: dict[str, JsonValue], sequence: int, previous_hash: str) -> dict[str, JsonValue]:
    """Return the record that `entry` becomes at its place in the chain."""
    record = {**entry, "sequence": sequence, "previous_hash": previous_hash}
    return {**record, "hash": record_hash(record)}


def record_hash(record: dict[str, JsonValue]) -> str:
    """Return the SHA-256 in hex over the canonical JSON of the record without `hash`."""
    body = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(canonical_json(body)).hexdigest()


def canonical_record(record: dict[str, JsonValue]) -> tuple[str, str]:
    """Return the canonical JSON of a record, and the hash that it should have.

    Raises ValueError as `canonical_json` does.
    """
    text = canonical_json(record).decode()
    body = {name: value for name, value in record.items() if name != "hash"}
    return text, hashlib.sha256(_CANONICAL.encode(body).encode()).hexdigest()
