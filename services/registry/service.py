"""What the registry's handlers work with."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from contracts.messages import Command
from services.registry.passwords import Passwords
from services.registry.platform_ca import PlatformCas
from services.registry.store.sessions import Limits
from shared.runtime import Runtime
from shared.secrets import Sealer

Request = Callable[[Command[Any]], Awaitable[Any]]
"""Sends a command to the service that takes it: over the bus, or within this process."""


@dataclass
class Registry:
    """The registry's dependencies."""

    runtime: Runtime
    request: Request
    sealer: Sealer
    limits: Limits
    unknown_tokens_per_minute: int
    """Enrolments with a token that is nobody's, from one address."""
    passwords: Passwords = field(default_factory=Passwords)
    platform_cas: PlatformCas = field(init=False)
    to_tell: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to tell the issuer."""

    def __post_init__(self) -> None:
        """Ask the issuer over the same way."""
        self.platform_cas = PlatformCas(self.request)
