"""Passwords: argon2id (RFC 9106), away from the event loop, a few at a time."""

import asyncio
import math
import secrets
import time
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from contracts.errors import CertwireError, ErrorCode

MOST_AT_ONCE: Final = 2
"""Each takes 64 MiB and a core for about 190 ms."""


class Passwords:
    """Hashes and verifies passwords."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()  # RFC 9106's second choice: 64 MiB, three passes
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._nobodys: str | None = None

    async def hash(self, password: str, deadline: float = math.inf) -> str:
        """Return the hash to store, its parameters and salt included.

        Raises `OVERLOADED` where its turn comes after the deadline (Unix seconds).
        """
        async with self._room:
            _require_time(deadline)
            return await asyncio.to_thread(self._hasher.hash, password)

    async def load(self) -> None:
        """Make the hash that stands in for unknown users."""
        self._nobodys = await self.hash(secrets.token_urlsafe())

    async def verify(self, stored: str | None, password: str, deadline: float) -> bool:
        """Return whether the password is right; None, for an unknown user, takes as long.

        Raises `OVERLOADED` where its turn comes after the deadline (Unix seconds).
        """
        if self._nobodys is None:
            await self.load()
        async with self._room:
            _require_time(deadline)
            right = await asyncio.to_thread(self._matches, stored or self._nobodys or "", password)
        return right and stored is not None

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def _require_time(deadline: float) -> None:
    if time.time() > deadline:
        raise CertwireError(ErrorCode.OVERLOADED, retry_after_seconds=5)
