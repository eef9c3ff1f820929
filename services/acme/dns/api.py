"""Calls of a provider's HTTP API, whose replies may be anything: bounded, and never followed.

1. A call goes below the address in the settings and nowhere else: no redirect is followed, no URL
   of a reply is read, neither cookies nor the environment have a part in it.
2. It has an end: seconds for all of it, and octets of the reply as they cross the network. Nothing
   is unpacked.
3. What is not an answer is an error in plain words: no connection, no time left, too much, a limit,
   a failure of the provider's own. What remains is for whoever knows the API.
4. A provider's own words are shown in one printable line, without any of the secrets it was sent.
"""

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import httpx2
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from services.acme.dns.provider import DnsProviderError
from shared import VERSION, json_body
from shared.clock import utc_now

CALL_SECONDS: Final = 20.0
"""For one call, from the name of the host to the last octet."""
CONNECT_SECONDS: Final = 5.0
MOST_OCTETS: Final = 2_000_000
"""Of a reply: a page of a hundred records or zones has a fifth of it."""
MOST_PAGES: Final = 50
MOST_CHARACTERS: Final = 200
"""Of a provider's own words."""
SHORTEST_SECRET: Final = 4
"""What is shorter stands in every text by chance."""
LONGEST_WAIT_SECONDS: Final = 86_400
"""What a provider may make us wait: whoever wants more gets asked once a day."""

ReplyT = TypeVar("ReplyT")


class ApiModel(BaseModel):
    """A part of a reply: what is read of it has these types, what is not read is anything."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: 2xx, or a refusal (4xx) that only the provider's own code explains."""

    provider: str
    status: int
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Return whether it is 2xx."""
        return self.status < HTTPStatus.MULTIPLE_CHOICES

    def read(self, kind: type[ReplyT]) -> ReplyT:
        """Return the body as JSON of a type. Raises `DnsProviderError`."""
        try:
            return TypeAdapter(kind).validate_python(json_body.parse(self.body))
        except (json.JSONDecodeError, ValidationError):
            raise self.malformed() from None

    def read_error(self, kind: type[ReplyT]) -> ReplyT | None:
        """Return the body of a refusal; None where it is not the API's, and says nothing."""
        try:
            return self.read(kind)
        except DnsProviderError:
            return None

    def malformed(self) -> DnsProviderError:
        """Return the error for a body that is not the API's."""
        reason = f"{self.provider} gave an answer that cannot be read (status {self.status})"
        return DnsProviderError(reason, transient=True)


def _no_wait(_reply: Reply, _headers: Mapping[str, str]) -> float | None:
    """Say nothing beyond a Retry-After."""
    return None


class Api:
    """One provider's API with one account's secrets.

    `wait_seconds` reads from a 429 what the provider says instead of a Retry-After.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        http: httpx2.AsyncClient,
        secrets: Sequence[str],
        wait_seconds: Callable[[Reply, Mapping[str, str]], float | None] = _no_wait,
    ) -> None:
        self.provider: Final = provider
        self._base_url = base_url
        self._http = http
        self._secrets: set[str] = set()
        self._wait_seconds = wait_seconds
        for secret in secrets:
            self.hide(secret)

    def hide(self, secret: str) -> None:
        """Never show a text that has this in it."""
        if len(secret) >= SHORTEST_SECRET:
            self._secrets.add(secret)

    def url(self, *path: str, query: Mapping[str, str] | None = None) -> str:
        """Return an address below the base; segments and query may hold any text."""
        segments = "".join(f"/{quote(segment, safe='')}" for segment in path)
        # In order and with %20: so it is signed, too.
        asked = urlencode(sorted((query or {}).items()), quote_via=quote, safe="")
        return f"{self._base_url}{segments}" + (f"?{asked}" if asked else "")

    async def call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None = None,
    ) -> Reply:
        """Return the answer. Raises `DnsProviderError`."""
        request = httpx2.Request(  # 1: not the client's own, which would add its cookies
            method,
            url,
            headers={
                "Accept-Encoding": "identity",
                "User-Agent": f"certwire/{VERSION}",
                **headers,
            },
            content=content,
            extensions={"timeout": httpx2.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS).as_dict()},
        )
        try:
            async with asyncio.timeout(CALL_SECONDS):  # 2
                response = await self._http.send(
                    request, auth=httpx2.Auth(), stream=True, follow_redirects=False
                )
                try:
                    body = await self._body(response)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx2.TimeoutException):
            raise self._failed("does not answer in time") from None
        except httpx2.ConnectError as error:
            raise self._failed(f"cannot be reached: {self.plain(str(error))}") from None
        except httpx2.HTTPError:  # its text may hold what was sent
            raise self._failed("broke off the connection") from None
        return self._answer(response, body)

    async def _body(self, response: httpx2.Response) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self._failed("gave an answer that is packed, though it was told not to")
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > MOST_OCTETS:
                raise self._failed(f"gave an answer of over {MOST_OCTETS} octets")
        return bytes(body)

    def _answer(self, response: httpx2.Response, body: bytes) -> Reply:  # 3
        status = response.status_code
        reply = Reply(self.provider, status, body)
        wait = _retry_after(response.headers.get("Retry-After"))
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = self._wait_seconds(reply, response.headers) if wait is None else wait
            raise self.limited(seconds)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise self._failed(f"failed (status {status})", wait)
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            raise DnsProviderError(
                f"{self.provider} wants us to go elsewhere (status {status}); redirects are not"
                " followed, because credentials would go with us"
            )
        return reply

    def limited(self, seconds: float | None = None) -> DnsProviderError:
        """Return the error for a limit on how often may be asked."""
        return DnsProviderError(
            f"{self.provider} limits how often it may be asked",
            transient=True,
            retry_after_seconds=None if seconds is None else _bounded(seconds),
        )

    def _failed(self, what: str, retry_after_seconds: int | None = None) -> DnsProviderError:
        return DnsProviderError(
            f"{self.provider} {what}", transient=True, retry_after_seconds=retry_after_seconds
        )

    def refused(self, what: str, *own_words: object) -> DnsProviderError:
        """Return the error for a refusal that trying again does not change."""
        said = ": ".join(filter(None, (self.plain(str(word)) for word in own_words)))
        return DnsProviderError(f"{self.provider} {what}" + (f" ({said})" if said else ""))

    def no_zone(self, name: str, but: str = "") -> DnsProviderError:
        """Return the error for a name that belongs into no zone of the account."""
        return self.refused(f"hosts no zone for {name} that these credentials can see{but}")

    def too_many_pages(self) -> DnsProviderError:
        """Return the error for a list without an end."""
        return self.refused(f"gave a list of over {MOST_PAGES} pages")

    def plain(self, text: str) -> str:  # 4
        """Return a provider's words as one line that may be shown; none that hold a secret."""
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        if any(secret in text or secret in line for secret in self._secrets):
            return "its words are left out, for they hold a secret"
        return line[:MOST_CHARACTERS]


def json_content(value: object) -> bytes:
    """Return a request's body."""
    return json.dumps(value, separators=(",", ":")).encode()


def _retry_after(text: str | None) -> int | None:
    """Return the seconds of a Retry-After (RFC 9110 section 10.2.3): of a number or a date."""
    if text is None:
        return None
    try:
        if text.isdigit():
            return _bounded(float(text))
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return _bounded((aware - utc_now()).total_seconds())


def _bounded(seconds: float) -> int:
    if math.isnan(seconds):
        return 0
    return math.ceil(min(max(seconds, 0.0), LONGEST_WAIT_SECONDS))
