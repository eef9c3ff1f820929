"""One HTTP request on its way to the services: who asks, under which id, and until when."""

import hashlib
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from starlette.types import Scope

from contracts.agents import Onboarding
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Call, Command, IdempotencyKey, Message
from contracts.principal import Credential, CredentialKind, Principal, PrincipalKind
from services.gateway import client_cert
from services.gateway.credentials import Identities, Question, presented
from services.gateway.onboarding import OnboardingState
from services.gateway.peer import PEER, PeerCertificate
from services.gateway.settings import ORDER_SECONDS
from shared import json_body
from shared.broker import Bus
from shared.identifiers import uuid7

SCOPE: Final = "certwire"
"""Where an ASGI scope has its exchange."""
READ_HEADERS: Final = frozenset(
    {
        b"authorization",
        b"client-cert",
        b"content-length",
        b"content-type",
        b"idempotency-key",
        b"traceparent",
        b"x-api-key",
        b"x-request-id",
    }
)
JSON_MEDIA_TYPE: Final = re.compile(rb"application/(?:[^\s;/]+\+)?json\s*(?:;|$)", re.IGNORECASE)
TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
IDEMPOTENCY_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")
"""As long as `contracts.messages.IdempotencyKey` takes it."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110 section 9.2.1: nothing to repeat."""

Headers = dict[bytes, list[bytes]]
ReplyT = TypeVar("ReplyT", bound=Message)


@dataclass(frozen=True, slots=True)
class Services:
    """The other side. `proxies` are the agents that may present others' certificates.

    `order_seconds` is how long a request may wait for a public CA.
    """

    bus: Bus
    identities: Identities
    onboarding: OnboardingState
    proxies: frozenset[str] = frozenset()
    order_seconds: float = ORDER_SECONDS


class Caller(NamedTuple):
    """Who asks, and the circumstances of what they ask."""

    principal: Principal
    call: Call


@dataclass(slots=True)
class Exchange:
    """What the gateway knows of a request. `began` and `deadline` are in Unix seconds."""

    request_id: str
    method: str
    path: str
    headers: Headers
    peer: PeerCertificate | None
    source_address: str | None
    began: float
    deadline: float
    services: Services | None = None
    body: bytes = b""

    @classmethod
    def begin(cls, scope: Scope, services: Services | None, seconds: float) -> "Exchange":
        """Begin to serve the request of an ASGI scope."""
        headers: Headers = {}
        for name, value in scope["headers"]:
            if name in READ_HEADERS:
                headers.setdefault(name, []).append(value)
        client = scope.get("client")
        now = time.time()
        return cls(
            request_id=str(uuid7()),
            method=scope["method"],
            path=scope["path"],
            headers=headers,
            peer=scope["state"].get(PEER),
            source_address=client[0] if client else None,
            began=now,
            deadline=now + seconds,
            services=services,
        )

    def header(self, name: bytes) -> bytes | None:
        """Return the header's first value."""
        values = self.headers.get(name)
        return values[0] if values else None

    @property
    def traceparent(self) -> str | None:
        """Return the caller's trace context, where it is well-formed (W3C Trace Context 3.2)."""
        value = self.header(b"traceparent")
        return value.decode() if value and TRACEPARENT.fullmatch(value) else None

    @property
    def caller_request_id(self) -> str | None:
        """Return the caller's own id of the request: for logs and traces alone."""
        value = self.header(b"x-request-id")
        return value[:128].decode("latin-1") if value else None

    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the body, or its bytes where it is no JSON. Raises `json.JSONDecodeError`."""
        media_type = self.header(b"content-type")
        if media_type is None or not JSON_MEDIA_TYPE.match(media_type):
            return self.body
        return json_body.parse(self.body)

    def check_headers(self) -> None:
        """Refuse an `Idempotency-Key` that cannot be kept. Raises RequestValidationError."""
        keys = self.headers.get(b"idempotency-key", [])
        if keys and not (len(keys) == 1 and IDEMPOTENCY_KEY.fullmatch(keys[0])):
            raise invalid_header("Idempotency-Key", "1 to 255 visible ASCII characters, once")

    async def caller(self, *kinds: CredentialKind) -> Caller:
        """Return who asks, by the kinds of credential that a route accepts.

        Raises `CREDENTIAL_MISSING`; `CREDENTIAL_REFUSED` for nobody's token, which asks for a new
        one; `FORBIDDEN` for nobody's certificate, with which nothing can be asked.
        """
        credential = presented(self.headers, self.peer, kinds)
        if credential is None:
            raise CertwireError(ErrorCode.CREDENTIAL_MISSING)
        principal = await self._resolve(credential)
        by_certificate = credential.kind is CredentialKind.CERTIFICATE
        if principal is None or (by_certificate and self._peer_has_expired()):
            refused = ErrorCode.FORBIDDEN if by_certificate else ErrorCode.CREDENTIAL_REFUSED
            raise CertwireError(refused)
        return Caller(principal, self.call(credential.sha256))

    def bearer(self) -> Credential | None:
        """Return the Bearer token, unresolved, for the registry, which knows it itself.

        Raises `CREDENTIAL_REFUSED` for what is none, and for two.
        """
        return presented(self.headers, None, (CredentialKind.BEARER,))

    def bearer_or_key(self) -> Credential | None:
        """Return the Bearer token or API key, unresolved, for the registry.

        Raises `CREDENTIAL_REFUSED` for what is none, and for two.
        """
        return presented(self.headers, None, (CredentialKind.BEARER, CredentialKind.API_KEY))

    def wait_for_the_ca(self) -> None:
        """Let the request last for as long as a public CA may take."""
        assert self.services is not None  # noqa: S101 - the public port has no such route
        self.deadline = max(self.deadline, self.began + self.services.order_seconds)

    async def certificate(self) -> Credential | None:
        """Return the client certificate, unresolved, for the service that knows it itself.

        Raises `CREDENTIAL_REFUSED` for one that ended since the handshake; the registry, which
        knows it even less, records that.
        """
        if self.peer is None:
            return None
        if self._peer_has_expired():
            with suppress(CertwireError):
                await self._resolve(self.peer.credential)
            raise CertwireError(ErrorCode.CREDENTIAL_REFUSED)
        return self.peer.credential

    async def forwarded_certificate(self) -> Credential | None:
        """Return the client certificate, or the one that a trusted proxy presents for its client.

        1. Unless the connection's certificate is that of a trusted proxy, it is what counts: a
           `Client-Cert` header of anybody else is not looked at.
        2. A proxy's own certificate stands for nobody here, whether or not the header is there.
        3. The registry knows a certificate by its hash, and by it alone: no chain is verified.

        Raises `CREDENTIAL_MISSING` and `CREDENTIAL_REFUSED`.
        """
        credential = await self.certificate()
        if credential is None or not await self._is_of_a_proxy(credential):  # 1
            return credential
        values = self.headers.get(b"client-cert", [])
        if not values:  # 2
            raise CertwireError(ErrorCode.CREDENTIAL_MISSING)
        try:
            (value,) = values
            forwarded = PeerCertificate.from_der(client_cert.parse(value))
        except ValueError:
            raise CertwireError(ErrorCode.CREDENTIAL_REFUSED) from None
        if forwarded.has_expired():
            raise CertwireError(ErrorCode.CREDENTIAL_REFUSED)
        return forwarded.credential  # 3

    async def onboarding(self) -> Onboarding:
        """Return whether the platform is set up. Raises CertwireError."""
        assert self.services is not None  # noqa: S101 - the public port has no such route
        return await self.services.onboarding.status(self.call())

    def call(self, scope: str | None = None) -> Call:
        """Return the circumstances of a command.

        `scope` is the SHA-256 of the credential, or of the token on a public token endpoint: an
        `Idempotency-Key` means something only together with it.
        """
        key = None if self.method in SAFE_METHODS else self.header(b"idempotency-key")
        return Call(
            request_id=self.request_id,
            deadline=self.deadline,
            traceparent=self.traceparent,
            idempotency=self._idempotency(key, scope) if key and scope else None,
            source_address=self.source_address,
        )

    async def request(self, command: Command[ReplyT]) -> ReplyT:
        """Send a command and return its reply. Raises CertwireError."""
        assert self.services is not None  # noqa: S101 - the public port has no such route
        return await self.services.bus.request(command)

    async def _resolve(self, credential: Credential) -> Principal | None:
        assert self.services is not None  # noqa: S101 - the public port has no such route
        question = Question(
            credential=credential, request_id=self.request_id, source_address=self.source_address
        )
        return await self.services.identities.resolve(question, self.deadline)

    async def _is_of_a_proxy(self, credential: Credential) -> bool:
        assert self.services is not None  # noqa: S101 - the public port has no such route
        if not self.services.proxies:
            return False
        principal = await self._resolve(credential)
        return (
            principal is not None
            and principal.kind is PrincipalKind.AGENT
            and principal.name in self.services.proxies
        )

    def _peer_has_expired(self) -> bool:
        return self.peer is not None and self.peer.has_expired()

    def _idempotency(self, key: bytes, scope: str) -> IdempotencyKey:
        request = hashlib.sha256(f"{self.method}\n{self.path}\n".encode())
        request.update(self.body)
        return IdempotencyKey(scope=scope, key=key.decode(), request=request.hexdigest())


def invalid_header(name: str, message: str) -> RequestValidationError:
    """Return the refusal of a header, as FastAPI would say it."""
    return RequestValidationError(
        [{"type": "value_error", "loc": ("header", name), "msg": message}]
    )


def exchange_of(request: Request) -> Exchange:
    """Return the exchange that a request belongs to."""
    exchange: Exchange = request.scope[SCOPE]
    return exchange


Current = Annotated[Exchange, Depends(exchange_of)]
"""An endpoint's parameter: the exchange that it serves."""
