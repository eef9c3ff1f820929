"""The protocol: RFC 8555, ARI (RFC 9773) and draft-ietf-acme-profiles.

It decides nothing: what to ask, when to ask again and what to trust is the caller's. Each call asks
once and is bounded in time. Calls raise AcmeProblem where the CA refused, CaUnavailable where it
may work later, CaMisbehaves where the answer is none that the protocol has.
"""

import asyncio
import functools
import itertools
import json
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from urllib.parse import quote

import httpx2
from cryptography.hazmat.primitives.asymmetric import ec

from services.acme.client import jose
from services.acme.client.answers import CHAIN, JSON, Answer
from services.acme.client.certificates import Chain, preferred
from services.acme.client.documents import Document, text
from services.acme.client.jose import Eab, Json, SigningKey, base64url
from services.acme.client.messages import (
    Account,
    Authorization,
    Challenge,
    Directory,
    Order,
    RenewalInfo,
    read_authorization,
    read_challenge,
    read_directory,
    read_order,
    read_renewal_info,
)
from services.acme.client.problems import (
    AcmeProblem,
    CaMisbehaves,
    CaUnavailable,
    NotOfferedError,
    Problem,
    plain,
)
from services.acme.client.transport import JSON_BYTES, Transport
from services.acme.client.urls import Origin

CALL_SECONDS: Final = 60.0
"""A call with all its requests, of which each has half of it."""
DIRECTORY_SECONDS: Final = 3600.0
"""How long a directory is taken for unchanged."""
NONCES_KEPT: Final = 20
"""As many as requests are usually in flight; CAs forget them after some minutes."""
NONCE_RETRIES: Final = 10
"""Of a request whose nonce was refused (RFC 8555 section 6.5)."""
CHAIN_BYTES: Final = 256 * 1024
ALTERNATES_LIMIT: Final = 5
"""CAs offer one or two."""
RENEWAL_INFO_SECONDS: Final = range(60, 86_400 + 1)
"""RFC 9773 section 4.3.2: what is a sensible time between two questions."""
RENEWAL_INFO_USUAL_SECONDS: Final = 6 * 3600
"""RFC 9773 section 4.3.3, where the CA does not say."""

_CERTIFICATE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,86}\.[A-Za-z0-9_-]{1,54}")
"""RFC 9773 section 4.1, of up to 64 and 40 octets."""

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


def _bounded(
    call: Callable[Concatenate["AcmeClient", P], Awaitable[ResultT]],
) -> Callable[Concatenate["AcmeClient", P], Coroutine[Any, Any, ResultT]]:
    """Bound a call in time, whatever the CA does. It raises CaUnavailable."""

    @functools.wraps(call)
    async def bounded(self: "AcmeClient", /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        try:
            async with asyncio.timeout(self._call_seconds):
                return await call(self, *args, **kwargs)
        except TimeoutError as error:
            raise CaUnavailable(f"the CA took longer than {self._call_seconds:g} s") from error

    return bounded


@dataclass(frozen=True, slots=True)
class Signer:
    """A key; `kid` is the account's URL, None where the key stands for itself."""

    key: SigningKey
    kid: str | None = None


class AcmeClient:
    """One CA. Calls at the same time are fine; they share nonces and the directory."""

    def __init__(
        self,
        directory_url: str,
        http: httpx2.AsyncClient,
        *,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        """Raises ValueError where the directory is not at an HTTPS URL."""
        self._origin = Origin.of(directory_url)
        self._transport = Transport(http, self._origin, call_seconds / 2)
        self._call_seconds = call_seconds
        self._directory_url = directory_url
        self._directory: Directory | None = None
        self._directory_ends = 0.0
        self._fetching = asyncio.Lock()
        self._nonces: deque[str] = deque(maxlen=NONCES_KEPT)

    @_bounded
    async def directory(self) -> Directory:
        """Return what the CA offers."""
        async with self._fetching:
            if self._directory is None or time.monotonic() >= self._directory_ends:
                answer = (await self._transport.send("GET", self._directory_url)).accepted()
                self._directory = read_directory(self._document("directory", answer))
                self._directory_ends = time.monotonic() + DIRECTORY_SECONDS
            return self._directory

    # --- Accounts --------------------------------------------------------------------------------

    @_bounded
    async def register(
        self, key: ec.EllipticCurvePrivateKey, contact: str | None, eab: Eab | None
    ) -> Account:
        """Make the account of a key, or find it; that agrees to the CA's terms.

        May be repeated after any failure. An account that was there keeps its contact. `contact`
        is an e-mail address.
        """
        url = (await self.directory()).new_account
        payload: dict[str, object] = {"termsOfServiceAgreed": True}
        if contact is not None:
            payload["contact"] = _contacts(contact)
        if eab is not None:
            payload["externalAccountBinding"] = jose.external_account_binding(eab, key, url)
        try:
            answer = await self._post(Signer(key), url, payload)
        except AcmeProblem:
            # Some CAs let an external account be used once: the reply to that may have been lost.
            found = await self._existing(key) if eab is not None else None
            if found is None:
                raise
            return found
        return self._account(key, answer)

    @_bounded
    async def update_contact(self, account: Account, contact: str | None) -> None:
        """Replace the account's e-mail address; None removes it."""
        await self._post(_signer(account), account.url, {"contact": _contacts(contact)})

    @_bounded
    async def change_key(self, account: Account, new_key: ec.EllipticCurvePrivateKey) -> Account:
        """Replace the account's key (RFC 8555 section 7.3.5). May be repeated after any failure.

        Raises NotOfferedError.
        """
        url = _offered((await self.directory()).key_change, "change of keys")
        payload = {"account": account.url, "oldKey": jose.jwk(account.key.public_key())}
        protected = {"jwk": jose.jwk(new_key.public_key()), "url": url}
        inner = jose.sign(new_key, protected, json.dumps(payload).encode())
        changed = Account(new_key, account.url)
        try:
            await self._post(_signer(account), url, inner)
        except AcmeProblem:
            found = await self._existing(new_key)
            if found is None or found.url != account.url:  # else it was done, and the reply lost
                raise
        return changed

    # --- Orders ----------------------------------------------------------------------------------

    @_bounded
    async def new_order(
        self,
        account: Account,
        domains: Sequence[str],
        *,
        profile: str | None = None,
        replaces: str | None = None,
    ) -> Order:
        """Order a certificate for DNS names; `replaces` is the `certificate_id` of an older one."""
        url = (await self.directory()).new_order
        identifiers = [{"type": "dns", "value": domain} for domain in domains]
        payload: dict[str, object] = {"identifiers": identifiers}
        if profile is not None:
            payload["profile"] = profile
        if replaces is not None:
            payload["replaces"] = replaces
        answer = await self._post(_signer(account), url, payload)
        order = self._order(answer, self._location(answer))
        if set(order.identifiers) != {domain.lower() for domain in domains}:
            raise CaMisbehaves("the order is for other names")
        return order

    @_bounded
    async def order(self, account: Account, url: str) -> Order:
        """Return an order as it is now."""
        return self._order(await self._get(account, url), url)

    @_bounded
    async def authorization(self, account: Account, url: str) -> Authorization:
        """Return an authorisation as it is now."""
        answer = await self._get(account, url)
        document = self._document("authorisation", answer)
        return read_authorization(document, answer.retry_after_seconds)

    @_bounded
    async def answer(self, account: Account, challenge_url: str) -> Challenge:
        """Tell the CA that it may look at a challenge. May be repeated."""
        answer = await self._post(_signer(account), challenge_url, {})
        return read_challenge(self._document("challenge", answer))

    @_bounded
    async def deactivate_authorization(self, account: Account, url: str) -> None:
        """Give up an authorisation: nobody needs it any more."""
        await self._post(_signer(account), url, {"status": "deactivated"})

    @_bounded
    async def finalize(self, account: Account, finalize_url: str, csr_der: bytes) -> Order:
        """Hand in the CSR. A repetition is refused (`orderNotReady`): the order tells the state."""
        answer = await self._post(_signer(account), finalize_url, {"csr": base64url(csr_der)})
        return self._order(answer, self._location(answer) if answer.location else "")

    # --- Certificates ----------------------------------------------------------------------------

    @_bounded
    async def certificate(
        self, account: Account, url: str, preferred_issuer: str | None = None
    ) -> str:
        """Return the chain in PEM, leaf first; its signatures are unchecked.

        Of the chains that the CA offers it is the one with an issuer of this common name, above all
        as the topmost one; where there is none, or none is preferred, the first.
        """
        answer = await self._chain(account, url)
        chains = [Chain.parse(answer.body)]
        if preferred_issuer is None or chains[0].issuer_names()[-1] == preferred_issuer:
            return chains[0].pem
        for link in itertools.islice(answer.links("alternate"), ALTERNATES_LIMIT):
            try:
                alternate = await self._chain(account, self._linked(link))
                chains.append(Chain.parse(alternate.body))
            except AcmeProblem:
                continue  # it is there no more; the others will do
            if not chains[-1].is_for_the_leaf_of(chains[0]):
                raise CaMisbehaves("an alternate chain is for another certificate")
        return preferred(chains, preferred_issuer).pem

    @_bounded
    async def revoke(
        self, signer: Account | SigningKey, certificate_der: bytes, reason: int | None
    ) -> None:
        """Revoke, by an account or the certificate's own key; a revoked one is left as it is.

        `reason` is a CRLReason (RFC 5280 section 5.3.1). Raises NotOfferedError.
        """
        url = _offered((await self.directory()).revoke_certificate, "revocation")
        payload: dict[str, object] = {"certificate": base64url(certificate_der)}
        if reason is not None:
            payload["reason"] = reason
        by = _signer(signer) if isinstance(signer, Account) else Signer(signer)
        try:
            await self._post(by, url, payload)
        except AcmeProblem as problem:
            if problem.type != "alreadyRevoked":
                raise

    @_bounded
    async def renewal_info(self, certificate_id: str) -> RenewalInfo:
        """Return when to renew a certificate (RFC 9773), by its `certificate_id`.

        Raises NotOfferedError.
        """
        if not _CERTIFICATE_ID.fullmatch(certificate_id):
            raise ValueError("not the id of a certificate")
        url = _offered((await self.directory()).renewal_info, "renewal information")
        answer = await self._transport.send("GET", f"{url.rstrip('/')}/{certificate_id}")
        said = answer.retry_after_seconds
        seconds = RENEWAL_INFO_USUAL_SECONDS if said is None else said
        least, most = RENEWAL_INFO_SECONDS[0], RENEWAL_INFO_SECONDS[-1]
        document = self._document("renewal information", answer.accepted())
        return read_renewal_info(document, min(max(seconds, least), most))

    # --- What the calls are made of --------------------------------------------------------------

    async def _existing(self, key: ec.EllipticCurvePrivateKey) -> Account | None:
        """Return the account of a key, None where the CA knows none."""
        url = (await self.directory()).new_account
        try:
            answer = await self._post(Signer(key), url, {"onlyReturnExisting": True})
        except AcmeProblem:
            return None
        return self._account(key, answer)

    async def _get(self, account: Account, url: str) -> Answer:
        """Read as ACME has it: POST-as-GET (RFC 8555 section 6.3)."""
        return await self._post(_signer(account), url, None)

    async def _chain(self, account: Account, url: str) -> Answer:
        answer = await self._post(_signer(account), url, None, accept=CHAIN, limit=CHAIN_BYTES)
        if answer.media_type != CHAIN:
            raise CaMisbehaves(f"the certificate comes as '{answer.media_type}'")
        return answer

    async def _post(
        self,
        signer: Signer,
        url: str,
        payload: Json | None,
        *,
        accept: str = JSON,
        limit: int = JSON_BYTES,
    ) -> Answer:
        """Send a signed request until its nonce is taken; return a successful answer."""
        content = b"" if payload is None else json.dumps(payload).encode()
        name = (
            {"jwk": jose.jwk(signer.key.public_key())}
            if signer.kid is None
            else {"kid": signer.kid}
        )
        nonce = await self._nonce()
        for _ in range(1 + NONCE_RETRIES):
            signed = jose.sign(signer.key, {**name, "nonce": nonce, "url": url}, content)
            body = json.dumps(signed).encode()
            answer = await self._transport.send("POST", url, body, accept=accept, limit=limit)
            problem = answer.problem
            if problem is None or problem.type != "badNonce":
                self._keep(answer.nonce)
                return answer.accepted()
            nonce = answer.nonce or await self._nonce()
        raise CaUnavailable("the CA refuses each of its nonces")

    async def _nonce(self) -> str:
        if self._nonces:
            return self._nonces.pop()  # the youngest: a CA may have forgotten the others
        answer = await self._transport.send("HEAD", (await self.directory()).new_nonce)
        nonce = answer.accepted().nonce
        if nonce is None:
            raise CaMisbehaves("the CA gives no nonce")
        return nonce

    def _keep(self, nonce: str | None) -> None:
        if nonce is not None:
            self._nonces.append(nonce)

    def _document(self, what: str, answer: Answer) -> Document:
        if answer.media_type != JSON:
            raise CaMisbehaves(f"the {what} comes as '{answer.media_type}' instead of JSON")
        return Document.parse(what, answer.body, self._origin)

    def _order(self, answer: Answer, url: str) -> Order:
        return read_order(self._document("order", answer), url, answer.retry_after_seconds)

    def _account(self, key: ec.EllipticCurvePrivateKey, answer: Answer) -> Account:
        """Return the account that an answer is about. Raises AcmeProblem where it was closed.

        Of an account that was there a CA may say nothing but where it is (RFC 8555 section 7.3.1).
        """
        said = self._document("account", answer).optional("status", text) if answer.body else None
        status = said or "valid"
        if status != "valid":
            problem = Problem("unauthorized", f"the account is {plain(status)}")
            raise AcmeProblem(problem, status=answer.status)
        return Account(key, self._location(answer))

    def _location(self, answer: Answer) -> str:
        return self._linked(answer.location)

    def _linked(self, url: str | None) -> str:
        try:
            return self._origin.checked(url)
        except ValueError as error:
            raise CaMisbehaves(f"the CA sends us elsewhere: {error}") from error


def _signer(account: Account) -> Signer:
    return Signer(account.key, account.url)


def _contacts(email: str | None) -> list[str]:
    """Return what an e-mail address is in ACME: URLs of one address (RFC 8555 section 7.3)."""
    return [] if email is None else [f"mailto:{quote(email, safe='@!$&*+=~')}"]


def _offered(url: str | None, service: str) -> str:
    if url is None:
        raise NotOfferedError(f"the CA offers no {service}")
    return url
