"""What the registry's handlers work with."""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from contracts.messages import Command, Message
from services.registry.passwords import Passwords
from services.registry.store.sessions import Limits
from shared.runtime import Runtime
from shared.secrets import Sealer

ReplyT = TypeVar("ReplyT", bound=Message)


class Requests(Protocol):
    """Sends commands to other services: `Bus`, and where there is none yet, `LocalBus`."""

    async def request(self, command: Command[ReplyT]) -> ReplyT:
        """Return the reply; raises what the service raised."""


@dataclass
class Registry:
    """The registry's dependencies."""

    runtime: Runtime
    issuer: Requests
    sealer: Sealer
    limits: Limits
    passwords: Passwords = field(default_factory=Passwords)
    to_tell: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to tell the issuer."""
