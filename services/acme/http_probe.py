"""Asks for a challenge's answer as a CA does (RFC 8555 section 8.3), at one address of a domain.

What comes back is compared, and nothing of it is told: the domain is chosen by whoever calls.
"""

import asyncio
import errno
import os
import ssl
from dataclasses import dataclass
from typing import Final

import httpx2

PATH: Final = "/.well-known/acme-challenge/"
PROBE_SECONDS: Final = 10.0
"""For one address; Let's Encrypt waits as long."""
ANSWER_OCTETS: Final = 1024
"""Key authorizations have about a hundred."""
BLANKS: Final = b" \t\r\n"
"""A CA disregards these at the end (RFC 8555 section 8.3)."""

_IN_WORDS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to it",
    errno.ENETUNREACH: "no route to it",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What an address did: `connected`, and `problem` in words unless it gave the answer."""

    connected: bool
    problem: str | None


def probing_client() -> httpx2.AsyncClient:
    """Return a client for probes: without proxies, redirects or cookies, and no TLS is trusted."""
    return httpx2.AsyncClient(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        trust_env=False,
        follow_redirects=False,
        timeout=PROBE_SECONDS,
    )


async def probe(
    http: httpx2.AsyncClient, address: str, port: int, domain: str, token: str, expected: str
) -> Answer:
    """Ask an address for a token's key authorization in a domain's name. Never raises for it."""
    host = f"[{address}]" if ":" in address else address
    headers = {"Host": domain, "Accept-Encoding": "identity", "Connection": "close"}
    request = http.build_request("GET", f"http://{host}:{port}{PATH}{token}", headers=headers)
    connected = False

    async def saw(event: str, _info: object) -> None:
        nonlocal connected
        connected = connected or event == "connection.connect_tcp.complete"

    request.extensions["trace"] = saw
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            problem = await _compared(http, request, expected.encode())
    except TimeoutError:
        problem = f"no answer within {PROBE_SECONDS:g} s"
    except httpx2.TimeoutException:
        problem = f"no answer within {PROBE_SECONDS:g} s"
    except httpx2.NetworkError as error:
        problem = _cause(error)
    except httpx2.HTTPError:
        problem = "what answered is no HTTP"
    return Answer(connected, problem)


async def _compared(
    http: httpx2.AsyncClient, request: httpx2.Request, expected: bytes
) -> str | None:
    """Return what is wrong with the answer, None where it is the one that is expected."""
    response = await http.send(request, stream=True)
    try:
        if response.is_redirect:
            return "it redirects, which this check does not follow, though most CAs do"
        if response.status_code != httpx2.codes.OK:
            return f"it answered with status {response.status_code}"
        body = b""
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > ANSWER_OCTETS:
                break
    finally:
        await response.aclose()
    return None if body.rstrip(BLANKS) == expected else "it answered with something else"


def _cause(error: BaseException) -> str:
    """Return why there is no connection, or none any more."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.errno is not None:
            return _IN_WORDS.get(at.errno, os.strerror(at.errno).lower())
        at = at.__cause__ or at.__context__
    return "the connection was closed"
