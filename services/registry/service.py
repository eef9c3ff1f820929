"""What the registry's handlers work with."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from contracts.messages import Command
from services.registry.passwords import Passwords
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
    passwords: Passwords = field(default_factory=Passwords)
    to_tell: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to tell the issuer."""
