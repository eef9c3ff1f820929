"""The CRLs that were asked for, as the issuer made them last."""

import asyncio
import base64
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import Crl, GetCrl
from shared.broker import Bus, own_call
from shared.clock import utc_now

ASK_SECONDS: Final = 3.0
MOST_BYTES: Final = 64 * 1024 * 1024
"""Of all CRLs in memory."""
TRIES: Final = 5
"""A CRL that is replaced while its pieces come is fetched anew."""
PEM_LINE: Final = 64
"""RFC 7468 section 2."""


@dataclass(frozen=True)
class PublishedCrl:
    """A whole CRL."""

    number: int
    this_update: datetime
    next_update: datetime
    der: bytes = field(repr=False)

    @cached_property
    def pem(self) -> bytes:
        """Return it as RFC 7468 section 6 has it."""
        text = base64.b64encode(self.der)
        lines = [text[start : start + PEM_LINE] for start in range(0, len(text), PEM_LINE)]
        return b"\n".join((b"-----BEGIN X509 CRL-----", *lines, b"-----END X509 CRL-----", b""))


class CrlCache:
    """Asks the issuer each time whether the CRL is still the last one, and fetches it if not.

    So nobody gets an older one than the issuer had when they asked. While the issuer does not
    answer, what is here is given out, as long as it has not ended. Those who wait at the same
    moment share one question; none joins a question that was asked before it.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: dict[str, PublishedCrl] = {}
        self._bytes = 0
        self._asking: dict[str, asyncio.Task[PublishedCrl]] = {}
        self._next: dict[str, asyncio.Task[PublishedCrl]] = {}

    async def get(self, slug: str) -> PublishedCrl:
        """Return a CA's CRL. Raises `NOT_FOUND`, and where the issuer is away its errors."""
        task = self._next.get(slug)
        if task is None:
            before = self._asking.get(slug)
            # A context of its own: it serves many requests, not the one that began it.
            task = asyncio.create_task(self._ask(slug, before), context=Context())
            task.add_done_callback(_seen)
            self._next[slug] = task
        return await asyncio.shield(task)

    async def _ask(self, slug: str, before: "asyncio.Task[PublishedCrl] | None") -> PublishedCrl:
        if before is not None:
            await asyncio.wait([before])
        task = self._asking[slug] = self._next.pop(slug)
        try:
            return await self._fetch(slug)
        finally:
            if self._asking[slug] is task:
                del self._asking[slug]

    async def _fetch(self, slug: str) -> PublishedCrl:
        known = self._known.get(slug)
        try:
            current = await self._current(slug, known)
        except CertwireError as error:
            if error.code is ErrorCode.NOT_FOUND or known is None:
                raise
            if known.next_update <= utc_now():
                raise
            return known
        self._keep(slug, current)
        return current

    async def _current(self, slug: str, known: PublishedCrl | None) -> PublishedCrl:
        number = known.number if known else None
        for _ in range(TRIES):
            first = await self._bus.request(
                GetCrl(call=own_call(ASK_SECONDS), slug=slug, known_number=number)
            )
            if first.piece is None and known is not None:
                return known
            try:
                der = await self._whole(slug, first)
            except CertwireError as error:
                if error.code is not ErrorCode.CONFLICT:
                    raise
                continue
            return PublishedCrl(first.number, first.this_update, first.next_update, der)
        raise CertwireError(ErrorCode.UNAVAILABLE)

    async def _whole(self, slug: str, first: Crl) -> bytes:
        """Return the DER that `first` begins. Raises `CONFLICT` where it was replaced meanwhile."""
        pieces = [first.piece or b""]
        while (offset := sum(map(len, pieces))) < first.size:
            call = own_call(ASK_SECONDS)
            command = GetCrl(call=call, slug=slug, number=first.number, offset=offset)
            pieces.append((await self._bus.request(command)).piece or b"")
        return b"".join(pieces)

    def _keep(self, slug: str, crl: PublishedCrl) -> None:
        """Hold it; where there are too many octets, let go of those asked for least recently."""
        before = self._known.pop(slug, None)
        self._bytes += len(crl.der) - (len(before.der) if before else 0)
        self._known[slug] = crl
        while self._bytes > MOST_BYTES:
            self._bytes -= len(self._known.pop(next(iter(self._known))).der)


def _seen(task: "asyncio.Task[PublishedCrl]") -> None:
    """Look at the outcome, for whoever waited may have gone."""
    if not task.cancelled():
        task.exception()
