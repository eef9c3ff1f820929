"""The platform's CA certificates, as the issuer last gave them."""

import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from cryptography import x509

from contracts.errors import CertwireError
from contracts.issuer import GetPlatformCa, PlatformCa
from contracts.messages import Call, Command

KEPT_SECONDS: Final = 60.0
"""How long the end of the issuing CA is shown without asking again."""
ASK_SECONDS: Final = 2.0
"""How long an overview waits for it."""


class PlatformCas:
    """`ca.crt`: the root and every issuing certificate in use."""

    def __init__(self, request: Callable[[Command[Any]], Awaitable[Any]]) -> None:
        self._request = request
        self._ends: datetime | None = None
        self._asked_at = -KEPT_SECONDS

    async def pem(self, call: Call) -> str:
        """Return the content of `ca.crt` now, as it goes with a certificate that was just signed.

        Raises what the issuer raises.
        """
        reply: PlatformCa = await self._request(
            GetPlatformCa(call=call.model_copy(update={"idempotency": None}))
        )
        return reply.ca_pem

    async def issuing_ends(self, call: Call) -> datetime:
        """Return the `notAfter` of the CA that signs: the newest, which is the last in the file.

        Asked for once a minute; where the issuer is away, what it said last still counts.
        """
        if self._ends is None or time.monotonic() - self._asked_at > KEPT_SECONDS:
            try:
                deadline = min(call.deadline, time.time() + ASK_SECONDS)
                pem = await self.pem(call.model_copy(update={"deadline": deadline}))
            except CertwireError:
                if self._ends is None:
                    raise
            else:
                newest = x509.load_pem_x509_certificates(pem.encode())[-1]
                self._ends = newest.not_valid_after_utc
            self._asked_at = time.monotonic()
        return self._ends
