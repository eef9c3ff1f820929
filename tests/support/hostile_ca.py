"""An ACME server that says whatever a test wants it to, over real HTTPS.

As it starts it is a CA like others, with one account, one order and one certificate; a test bends
what it needs. It checks nothing.
"""

import asyncio
import base64
import json
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.authority import Authority
from tests.support.csr import csr_pem
from tests.support.pebble import LOOPBACK, write_identity

JSON = "application/json"
PROBLEM = "application/problem+json"
CHAIN = "application/pem-certificate-chain"
DOMAIN = "www.example.com"
TOKEN = "a-token-of-at-least-128-bits"
REASONS = {200: "OK", 201: "Created", 302: "Found"}


@dataclass(frozen=True)
class Request:
    """What was asked; `protected` and `payload` are those of a JWS."""

    method: str
    path: str
    headers: Mapping[str, str]
    protected: Any
    payload: Any


Writes = Callable[[asyncio.StreamWriter], Awaitable[None]]
Serves = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Reply:
    """An answer; `headers` take the place of the usual ones. `raw` writes octets as it likes."""

    body: bytes | str | dict[str, Any] = b""
    status: int = 200
    content_type: str = JSON
    headers: list[tuple[str, str]] = field(default_factory=list)
    raw: Writes | None = None

    def encoded(self, nonce: str) -> bytes:
        body = json.dumps(self.body) if isinstance(self.body, dict) else self.body
        content = body.encode() if isinstance(body, str) else body
        usual = {
            "Content-Type": self.content_type,
            "Content-Length": str(len(content)),
            "Replay-Nonce": nonce,
        }
        named = {name.lower() for name, _ in self.headers}
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Said')}"]
        lines += [f"{name}: {value}" for name, value in usual.items() if name.lower() not in named]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + content


def problem(kind: str, detail: str = "", status: int = 403, **members: object) -> Reply:
    """Return a problem document as an answer."""
    body = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, **members}
    return Reply(body, status, PROBLEM)


class HostileCa:
    """The server. `replies` are by path; a list is said one by one, its last again and again."""

    def __init__(self, origin: str, ca_file: Path, context: ssl.SSLContext) -> None:
        self.origin = origin
        self.ca_file = ca_file
        self.context = context
        self.asked: list[Request] = []
        self.connections = 0
        self.nonces = 0
        self.authority = Authority("Hostile")
        self.directory: dict[str, Any] = {
            name: self.url(path)
            for name, path in {
                "newNonce": "nonce",
                "newAccount": "account",
                "newOrder": "new-order",
                "revokeCert": "revoke",
                "keyChange": "key",
                "renewalInfo": "ari",
            }.items()
        }
        self.challenge: dict[str, Any] = {
            "type": "http-01", "url": self.url("challenge"), "status": "pending", "token": TOKEN,
        }  # fmt: skip
        self.authorization: dict[str, Any] = {
            "identifier": {"type": "dns", "value": DOMAIN},
            "status": "pending",
            "challenges": [self.challenge],
        }
        self.order: dict[str, Any] = {
            "status": "pending",
            "identifiers": [{"type": "dns", "value": DOMAIN}],
            "authorizations": [self.url("authorization")],
            "finalize": self.url("finalize"),
        }
        self.chain = self.authority.server_chain(csr_pem())
        self.replies: dict[str, Reply | list[Reply]] = {
            "/dir": Reply(self.directory),
            "/nonce": Reply(),
            "/account": Reply({"status": "valid"}, 201, headers=[("Location", self.url("me"))]),
            "/new-order": Reply(self.order, 201, headers=[("Location", self.url("order"))]),
            "/order": Reply(self.order),
            "/authorization": Reply(self.authorization),
            "/challenge": Reply(self.challenge),
            "/finalize": Reply(self.order),
            "/certificate": Reply(self.chain, content_type=CHAIN),
            "/revoke": Reply(),
            "/key": Reply(),
        }

    @property
    def directory_url(self) -> str:
        return self.url("dir")

    def url(self, path: str) -> str:
        """Return the address of a path here."""
        return f"{self.origin}/{path}"

    def asked_at(self, path: str) -> list[Request]:
        """Return what was asked at a path."""
        return [request for request in self.asked if request.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the other side goes."""
        self.connections += 1
        while True:
            await self._answer(await _read(reader), writer)
            await writer.drain()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.asked.append(request)
        said = self.replies[request.path]
        reply = said if isinstance(said, Reply) else said.pop(0) if len(said) > 1 else said[0]
        if reply.raw is not None:
            await reply.raw(writer)
            raise ConnectionError
        self.nonces += 1
        writer.write(reply.encoded(f"nonce-{self.nonces}"))


async def _read(reader: asyncio.StreamReader) -> Request:
    """Read a request, and what its JWS says."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    method, path, _ = first.split()
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    jws = json.loads(body or "{}")
    return Request(
        method, path, headers, _part(jws.get("protected", "")), _part(jws.get("payload", ""))
    )


def _part(encoded: str) -> Any:  # noqa: ANN401 - any JSON
    """Return what a part of a JWS says, None where it is empty."""
    text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    return json.loads(text) if text else None


@asynccontextmanager
async def hostile_ca() -> AsyncIterator[HostileCa]:
    """Run the server until the block ends."""
    with tempfile.TemporaryDirectory(prefix="certwire-test-") as name:
        directory = Path(name)
        write_identity(directory)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(directory / "chain.pem", directory / "key.pem")
        with socket.create_server((LOOPBACK, 0)) as listener:
            ca = HostileCa(f"https://{address_of(listener)}", directory / "ca.pem", context)
            async with serving(listener, ca.serve, context):
                yield ca


@asynccontextmanager
async def serving(
    listener: socket.socket, serve: Serves, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """Serve connections until the block ends, whatever state they are in."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # it ends; Python 3.11's streams can't have a task that was cancelled
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(connected, sock=listener, ssl=context)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def address_of(listener: socket.socket) -> str:
    """Return host and port."""
    host, port = listener.getsockname()
    return f"{host}:{port}"
