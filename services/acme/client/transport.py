"""HTTPS to one CA, bounded in time and size whatever the other side does."""

import asyncio
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Final

import httpx2

from services.acme.client.answers import JSON, PROBLEM, Answer, is_trouble, media_type
from services.acme.client.problems import CaMisbehaves, CaUnavailable
from services.acme.client.urls import Origin
from shared import VERSION

CONNECT_PART: Final = 3
"""Connecting has a third of a request's time, and so has the handshake."""
CONNECTIONS: Final = 50
KEPT_SECONDS: Final = 15.0
"""How long a connection may be idle; servers close theirs after a minute or more."""
JSON_BYTES: Final = 64 * 1024
"""An order for 100 names has around 10 KiB."""
JOSE: Final = "application/jose+json"


class Transport:
    """Sends requests to an origin, and nowhere else."""

    def __init__(self, http: httpx2.AsyncClient, origin: Origin, request_seconds: float) -> None:
        """Each request has so long, from asking for a connection to the answer's last octet."""
        self._http = http
        self._origin = origin
        self._seconds = request_seconds

    async def send(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        *,
        accept: str = JSON,
        limit: int = JSON_BYTES,
    ) -> Answer:
        """Return the answer, whatever its status but no redirect.

        Raises CaUnavailable where there is none in time, and CaMisbehaves where the address leads
        elsewhere, the body is larger than `limit`, or comes encoded.
        """
        request = self._request(method, url, body, accept)
        try:
            async with asyncio.timeout(self._seconds):
                return await self._answer(request, limit)
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise CaUnavailable("the CA did not answer in time") from error
        except httpx2.TransportError as error:
            raise CaUnavailable(f"the CA cannot be reached: {_cause(error)}") from error
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            raise CaMisbehaves(f"the CA's answer cannot be read: {_cause(error)}") from error

    def _request(self, method: str, url: str, body: bytes | None, accept: str) -> httpx2.Request:
        try:
            self._origin.checked(url)
        except ValueError as error:
            raise CaMisbehaves(f"the CA sends us elsewhere: {error}") from error
        headers = {
            "User-Agent": f"certwire/{VERSION}",
            "Accept": accept,
            "Accept-Encoding": "identity",
        }
        if body is not None:
            headers["Content-Type"] = JOSE
        timeout = httpx2.Timeout(self._seconds, connect=self._seconds / CONNECT_PART)
        return self._http.build_request(method, url, content=body, headers=headers, timeout=timeout)

    async def _answer(self, request: httpx2.Request, limit: int) -> Answer:
        response = await self._http.send(request, stream=True, follow_redirects=False)
        try:
            if response.is_redirect:
                raise CaMisbehaves(f"the CA redirects ({response.status_code})")
            status, headers = response.status_code, response.headers
            if is_trouble(status) and media_type(headers) != PROBLEM:  # a page for people
                return Answer(status, headers, b"")
            return Answer(status, headers, await _body(response, limit))
        finally:
            await response.aclose()


async def _body(response: httpx2.Response, limit: int) -> bytes:
    """Return the body as it came over the wire. Raises CaMisbehaves."""
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise CaMisbehaves("the CA's answer is encoded, which was not asked for")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > limit:
            raise CaMisbehaves(f"the CA's answer is larger than {limit} octets")
    return bytes(body)


def http_client(
    ca_bundle: Path | None = None, *, connections: int = CONNECTIONS
) -> httpx2.AsyncClient:
    """Return a client for requests to CAs; it trusts `ca_bundle` alone, or what the machine trusts.

    It heeds no variables of the environment, goes through no proxy, and keeps no cookies.
    """
    context = ssl.create_default_context(cafile=ca_bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return httpx2.AsyncClient(
        verify=context,
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        limits=httpx2.Limits(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=KEPT_SECONDS,
        ),
    )


def _cause(error: Exception) -> str:
    """Return what went wrong, in the words of whoever saw it first."""
    while (cause := error.__cause__ or error.__context__) and isinstance(cause, Exception):
        error = cause
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with it: {error.reason or error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
