"""Commands of every service that seals what it stores: changing the key-encryption key.

Keys are named by their ids, in hex; no key crosses the bus.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import Field

from contracts.messages import Command, Done, Message
from contracts.subjects import CLI, Service, command

KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class SealedValues(Message):
    """`current` is the key that seals, `counts` how many values are under which key."""

    current: KeyId
    counts: dict[str, int]


class GetSealedValues(Command[SealedValues]):
    REPLY: ClassVar[type[Message]] = SealedValues
    CALLERS: ClassVar[frozenset[str]] = frozenset({CLI})


class Rewrapped(Message):
    """How many values this call put under the current key, and how many are left."""

    values: int
    left: int


class RewrapValues(Command[Rewrapped]):
    """Put values under the key `key_id`, for some seconds; to be repeated until none is left.

    `values` is how many earlier calls did. Raises `CONFLICT` where the service seals with another
    key, and where a value does not open.
    """

    REPLY: ClassVar[type[Message]] = Rewrapped
    CALLERS: ClassVar[frozenset[str]] = frozenset({CLI})
    ACTION: ClassVar[str | None] = "kek_rewrap"

    key_id: KeyId
    values: int = Field(default=0, ge=0)

    def audit_object(self) -> tuple[str, str]:
        return "kek", self.key_id


class RetireKeys(Command[Done]):
    """Never again take a value under one of the keys; idempotent.

    Raises `CONFLICT` where the service seals with another key than `key_id`, or has values left.
    """

    REPLY: ClassVar[type[Message]] = Done
    CALLERS: ClassVar[frozenset[str]] = frozenset({CLI})
    ACTION: ClassVar[str | None] = "kek_retire"

    key_id: KeyId
    retired: tuple[KeyId, ...] = Field(min_length=1, max_length=100)

    def audit_object(self) -> tuple[str, str]:
        return "kek", self.retired[0]


class GetIssuerValues(GetSealedValues):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "kek", "get")


class RewrapIssuerValues(RewrapValues):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "kek", "rewrap")


class RetireIssuerKeys(RetireKeys):
    SUBJECT: ClassVar[str] = command(Service.ISSUER, "kek", "retire")


class GetRegistryValues(GetSealedValues):
    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "kek", "get")


class RewrapRegistryValues(RewrapValues):
    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "kek", "rewrap")


class RetireRegistryKeys(RetireKeys):
    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "kek", "retire")


class GetInstanceValues(GetSealedValues):
    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "kek", "get")


class RewrapInstanceValues(RewrapValues):
    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "kek", "rewrap")


class RetireInstanceKeys(RetireKeys):
    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "kek", "retire")


class GetAcmeValues(GetSealedValues):
    SUBJECT: ClassVar[str] = command(Service.ACME, "kek", "get")


class RewrapAcmeValues(RewrapValues):
    SUBJECT: ClassVar[str] = command(Service.ACME, "kek", "rewrap")


class RetireAcmeKeys(RetireKeys):
    SUBJECT: ClassVar[str] = command(Service.ACME, "kek", "retire")


@dataclass(frozen=True)
class KekCommands:
    """What one service answers."""

    get: type[GetSealedValues]
    rewrap: type[RewrapValues]
    retire: type[RetireKeys]


KEK_COMMANDS: Final[Mapping[Service, KekCommands]] = {
    Service.ISSUER: KekCommands(GetIssuerValues, RewrapIssuerValues, RetireIssuerKeys),
    Service.REGISTRY: KekCommands(GetRegistryValues, RewrapRegistryValues, RetireRegistryKeys),
    Service.INSTANCE: KekCommands(GetInstanceValues, RewrapInstanceValues, RetireInstanceKeys),
    Service.ACME: KekCommands(GetAcmeValues, RewrapAcmeValues, RetireAcmeKeys),
}
