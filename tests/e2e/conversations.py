"""Words for what the platform answers."""

import asyncio
import ssl
from dataclasses import dataclass

import httpx2

from tests.support.client import tls_context
from tests.support.platform import Platform

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True)
class Refused:
    """A refusal of the instance dialect; equal to every answer that says exactly this."""

    status: int
    text: str

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, httpx2.Response):
            return NotImplemented
        return other.status_code == self.status and other.json() == {"detail": self.text}

    def __hash__(self) -> int:
        return hash((self.status, self.text))


def detail(response: httpx2.Response) -> object:
    """Return the text of a refusal."""
    return response.json()["detail"]


def retry_after(response: httpx2.Response) -> int:
    """Return how many seconds the caller is told to wait."""
    return int(response.headers["retry-after"])


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it stood on the wire; status 0 where the connection was cut without one."""

    status: int
    head: str
    body: bytes


async def say(
    platform: Platform, request: bytes, identity: str | None = None, *, seconds: float = 15
) -> RawAnswer:
    """Send bytes over TLS and return what is answered until the connection ends."""
    reader, writer = await asyncio.open_connection(
        "localhost", platform.https_port, ssl=tls_context(platform.ca_file, identity)
    )
    try:
        writer.write(request)
        async with asyncio.timeout(seconds):
            answer = await reader.read()
    except (ConnectionError, ssl.SSLError):
        answer = b""
    finally:
        writer.transport.abort()
    head, _, body = answer.removeprefix(CONTINUE).partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    return RawAnswer(status, head.decode("latin-1"), body)


def http(method: str, path: str, body: bytes = b"", *headers: str, version: str = "1.1") -> bytes:
    """Return a request after which the connection ends."""
    lines = [
        f"{method} {path} HTTP/{version}",
        "Host: localhost",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *(headers or ("Content-Type: application/json",)),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
