"""The HTTP server's side of a connection: whose certificate it carries, and how patient it is.

uvicorn hands no peer certificate to the application and bounds neither the size of a request's
head nor the time that it may take.
"""

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from ssl import SSLObject
from typing import Any, Final

from cryptography import x509
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from contracts.principal import Credential, CredentialKind
from shared.identifiers import uuid7

PEER: Final = "peer_certificate"
"""Where a request's `scope["state"]` has the certificate; None where none was presented."""
HEAD_LIMIT_BYTES: Final = 64 * 1024
"""Of a request line with its headers; as much as uvicorn's other implementation takes."""
HEAD_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A client certificate that the TLS handshake verified; `not_after` in Unix seconds."""

    credential: Credential
    not_after: float

    @classmethod
    def from_der(cls, der: bytes) -> "PeerCertificate":
        """Return the facts of a certificate. Raises ValueError."""
        sha256 = hashlib.sha256(der).hexdigest()
        not_after = x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
        return cls(Credential(kind=CredentialKind.CERTIFICATE, sha256=sha256), not_after)

    def has_expired(self) -> bool:
        """Return whether it ended since the handshake."""
        return self.not_after < time.time()


class PeerProtocol(HttpToolsProtocol):
    """Reads the peer's certificate once a connection, and bounds the heads of requests."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._head_open = False
        self._head_timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        super().connection_made(transport)
        self.app_state = {PEER: None}
        tls: SSLObject | None = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        if der is not None:
            try:
                self.app_state = {PEER: PeerCertificate.from_der(der)}
            except ValueError:
                transport.abort()
                return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_open = self._head_open
        super().data_received(data)
        if not self._head_open:
            return
        self._head_bytes += len(data) if was_open else 0
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._head_timeout is None:
            self._await_head()

    def on_message_begin(self) -> None:
        self._head_open, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_is_there()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the parser's words help nobody
        self.refuse(HTTPStatus.BAD_REQUEST)

    def refuse(self, status: HTTPStatus) -> None:
        """Answer what is no request that an application could answer, and hang up."""
        if self.transport.is_closing():
            return
        answer = Malformed(status)
        self.transport.write(answer.encode())
        self.transport.close()

    def _await_head(self) -> None:
        self._head_timeout = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def _head_is_there(self) -> None:
        self._head_open = False
        if self._head_timeout is not None:
            self._head_timeout.cancel()
            self._head_timeout = None

    def _hang_up(self) -> None:
        self._head_timeout = None
        if not self.transport.is_closing():
            self.transport.close()


@dataclass(frozen=True)
class Malformed:
    """The answer to bytes that are no request (RFC 9457)."""

    status: HTTPStatus
    request_id: str = field(default_factory=lambda: str(uuid7()))

    def encode(self) -> bytes:
        """Return the whole answer."""
        body = json.dumps({"title": self.status.phrase, "status": self.status.value}).encode()
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            "content-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-request-id: {self.request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        return head.encode() + body
