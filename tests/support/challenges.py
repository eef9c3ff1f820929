"""Challenges of ACME, answered as a real subscriber would, and whole orders by our client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from services.acme.client import (
    Account,
    AcmeClient,
    AuthorizationStatus,
    Challenge,
    Order,
    OrderStatus,
    dns_txt_value,
    key_authorization,
)
from tests.support.csr import Key, csr_pem
from tests.support.eventually import eventually
from tests.support.pebble import LOOPBACK, ChallengeDns

PATH = "/.well-known/acme-challenge/"
"""RFC 8555 section 8.3."""

Answering = Callable[[str, str, str], Awaitable[None]]
"""Makes a challenge's answer ready: its name, its token, its key authorisation."""


class HttpAnswers:
    """What a web server has at the well-known path; what was asked for is in `asked`."""

    def __init__(self) -> None:
        self.ready: dict[str, str] = {}
        self.asked: list[str] = []

    async def put(self, _name: str, token: str, authorization: str) -> None:
        """Have an answer."""
        self.ready[token] = authorization

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1].decode()
        self.asked.append(path)
        body = self.ready.get(path.removeprefix(PATH), "").encode()
        status = "200 OK" if body else "404 Not Found"
        length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{length}".encode() + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def http_answers(port: int) -> AsyncIterator[HttpAnswers]:
    """Run a web server until the block ends."""
    answers = HttpAnswers()
    server = await asyncio.start_server(answers.serve, LOOPBACK, port)
    async with server:
        yield answers


def dns_answers(dns: ChallengeDns) -> Answering:
    """Return what puts answers into a DNS."""

    async def put(name: str, _token: str, authorization: str) -> None:
        value = dns_txt_value(authorization)
        await asyncio.to_thread(dns.add_txt, f"_acme-challenge.{name}", value)

    return put


def csr_der(key: Key, names: Sequence[str]) -> bytes:
    """Return a CSR for DNS names; the first one is its common name, too."""
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    pem = csr_pem(key, names[0], [san])
    return x509.load_pem_x509_csr(pem.encode()).public_bytes(Encoding.DER)


async def authorized(
    client: AcmeClient, account: Account, order: Order, kind: str, answering: Answering
) -> Order:
    """Answer what an order asks for; return it ready."""
    for url in order.authorizations:
        authorization = await client.authorization(account, url)
        if authorization.status is AuthorizationStatus.PENDING:
            challenge = challenge_of(authorization.challenges, kind)
            assert challenge.token is not None
            answer = key_authorization(challenge.token, account.key)
            await answering(authorization.identifier, challenge.token, answer)
            await client.answer(account, challenge.url)
    return await reached(client, account, order.url, OrderStatus.READY)


async def issued(
    client: AcmeClient,
    account: Account,
    names: Sequence[str],
    kind: str,
    answering: Answering,
    *,
    key: Key,
    profile: str | None = None,
    replaces: str | None = None,
) -> Order:
    """Order a certificate and answer what it takes; return the valid order."""
    order = await client.new_order(account, names, profile=profile, replaces=replaces)
    ready = await authorized(client, account, order, kind, answering)
    await client.finalize(account, ready.finalize, csr_der(key, names))
    return await reached(client, account, order.url, OrderStatus.VALID)


async def reached(client: AcmeClient, account: Account, url: str, status: OrderStatus) -> Order:
    """Return the order once it has the status. Fails where it becomes invalid."""

    async def ask() -> Order | None:
        order = await client.order(account, url)
        assert order.status is not OrderStatus.INVALID, order
        return order if order.status is status else None

    order = await eventually(ask, f"the order is {status}", seconds=30)
    assert order is not None
    return order


def challenge_of(challenges: Sequence[Challenge], kind: str) -> Challenge:
    """Return the challenge of a type."""
    return next(challenge for challenge in challenges if challenge.type == kind)
