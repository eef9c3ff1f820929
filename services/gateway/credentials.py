"""Which credential a request presents, and who it stands for."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Credential, CredentialKind, Principal
from contracts.registry import ResolveCredentials
from services.gateway.peer import PeerCertificate
from shared.broker import Bus, own_call
from shared.secrets import token_hash

Headers = Mapping[bytes, Sequence[bytes]]
Question = ResolveCredentials.Question

BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)
"""RFC 6750 section 2.1."""
MOST_QUESTIONS: Final = 500
"""As many as `ResolveCredentials` takes."""
MOST_MESSAGES: Final = 2
"""Under way at the same time; what comes meanwhile waits together."""
RESOLVE_SECONDS: Final = 5.0


def presented(
    headers: Headers, peer: PeerCertificate | None, kinds: Sequence[CredentialKind]
) -> Credential | None:
    """Return the one credential that counts, None without any. Raises `CREDENTIAL_REFUSED`.

    1. Kinds that the route does not accept are not looked at.
    2. A header goes before the certificate. The header was written for this request; the
       certificate belongs to the connection, and a proxy or a browser lends it to whatever passes
       through. Were it to win, a weak token sent through such a proxy would act as the proxy.
    3. There is no falling back: where the header is refused, a certificate does not help.
    4. Two headers are refused, for two readers could each believe another one.
    """
    written = [
        Credential(kind=kind, sha256=token_hash(secret))
        for kind in (CredentialKind.BEARER, CredentialKind.API_KEY)
        if kind in kinds
        for secret in _secrets(headers, kind)
    ]
    if len(written) > 1:
        raise CertwireError(ErrorCode.CREDENTIAL_REFUSED)
    if written:
        return written[0]
    if peer is not None and CredentialKind.CERTIFICATE in kinds:
        return peer.credential
    return None


def _secrets(headers: Headers, kind: CredentialKind) -> list[str]:
    if kind is CredentialKind.API_KEY:
        return [value.decode("latin-1") for value in headers.get(b"x-api-key", ())]
    found = []
    for value in headers.get(b"authorization", ()):
        if value[:6].lower() != b"bearer":
            continue  # another scheme, such as a proxy's own Basic
        token = BEARER.fullmatch(value)
        if token is None:
            raise CertwireError(ErrorCode.CREDENTIAL_REFUSED)
        found.append(token[1].decode())
    return found


class Identities:
    """Asks the registry who credentials stand for, now: nothing is remembered.

    Look-ups that wait at the same moment share one message. None joins a message that was sent
    before it: so no request that begins after a revocation is answered from before it.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: list[tuple[Question, asyncio.Future[Principal | None]]] = []
        self._senders: set[asyncio.Task[None]] = set()

    async def resolve(self, question: Question, deadline: float) -> Principal | None:
        """Return the principal, None for nobody's credential. Raises CertwireError."""
        answer: asyncio.Future[Principal | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if len(self._senders) < MOST_MESSAGES:
            sender = asyncio.create_task(self._send())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        try:
            async with asyncio.timeout(deadline - time.time()):
                return await answer
        except TimeoutError:
            raise CertwireError(ErrorCode.OUTCOME_UNKNOWN) from None

    async def _send(self) -> None:
        while self._waiting:
            batch = self._waiting[:MOST_QUESTIONS]
            del self._waiting[:MOST_QUESTIONS]
            try:
                await self._ask(batch)
            except Exception as problem:  # noqa: BLE001 - whatever it is, those who wait must hear it
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(problem)

    async def _ask(self, batch: list[tuple[Question, asyncio.Future[Principal | None]]]) -> None:
        questions = tuple(question for question, _ in batch)
        resolved = await self._bus.request(
            ResolveCredentials(call=own_call(RESOLVE_SECONDS), questions=questions)
        )
        for (_, answer), principal in zip(batch, resolved.principals, strict=True):
            if not answer.done():
                answer.set_result(principal)
