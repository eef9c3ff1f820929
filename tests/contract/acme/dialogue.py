"""What the gateway says to the acme service, and what a CA asks the gateway."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from contracts.acme import (
    CertificateMaterial,
    ChallengeType,
    CreateProject,
    FoundCertificate,
    GetHttpChallenge,
    GetOrder,
    GetPublicCertificate,
    HttpChallenge,
    Issuance,
    ObtainCertificate,
    Order,
    OrderState,
    Project,
    PublicCertificate,
    RenewPublicCertificate,
    SetDomain,
)
from contracts.errors import CertwireError
from contracts.messages import Command, IdempotencyKey, Message
from contracts.principal import Principal, PrincipalKind, Role
from services.acme.service import Acme
from shared.broker import Bus
from shared.clock import utc_now
from tests.support.pebble import ChallengeDns, Pebble
from tests.support.registry import Tables
from tests.support.running import call
from tests.unit.services.acme.authorities import DAY, NOW, Ca, key_pem, pem

SUPERUSER = Principal(kind=PrincipalKind.USER, id="1", name="root", role=Role.SUPERUSER)
ADMIN = Principal(kind=PrincipalKind.ADMIN, id="admin", name="admin", fingerprint="a" * 64)
ORDER_SECONDS = 30
WELL_KNOWN = "/.well-known/acme-challenge/"
ReplyT = TypeVar("ReplyT", bound=Message)


def key_of(*permissions: str) -> Principal:
    """Return who an API key stands for."""
    return Principal(kind=PrincipalKind.API_KEY, id="7", name="deploy", capabilities=permissions)


WRITER = key_of("projects:read", "projects:write")


def http_issuance(**changes: Any) -> Issuance:  # noqa: ANN401 - any field
    """Return the usual wish."""
    fields = {"email": "ops@example.com", "challenge_type": ChallengeType.HTTP_01, "key_type": "ec"}
    return Issuance(**{**fields, **changes})


@dataclass(frozen=True)
class Dialogue:
    """The gateway's end of the bus, and looks behind."""

    bus: Bus
    local: Acme
    tables: Tables
    authority: Pebble
    names: ChallengeDns
    actor: Principal = WRITER

    async def ask(
        self,
        kind: type[Command[ReplyT]],
        *,
        key: str | None = None,
        **fields: Any,  # noqa: ANN401 - any field
    ) -> ReplyT:
        """Send a command."""
        circumstances = call()
        if key is not None:
            idempotency = IdempotencyKey(scope="0" * 64, key=key, request="1" * 64)
            circumstances = circumstances.model_copy(update={"idempotency": idempotency})
        if "actor" in kind.model_fields:
            fields = {"actor": self.actor, **fields}
        return await self.bus.request(kind(call=circumstances, **fields))

    async def project(
        self, project_id: str = "shop", domain: str | None = "shop.example.com"
    ) -> Project:
        """Make a project, with a domain."""
        made = await self.ask(CreateProject, project_id=project_id, name=project_id.title())
        if domain is None:
            return made
        return await self.ask(SetDomain, project_id=project_id, domain=domain)

    async def begin(self, project_id: str = "shop", **changes: Any) -> Order:  # noqa: ANN401 - any field
        """Begin an order."""
        dry_run = changes.pop("dry_run", False)
        return await self.ask(
            ObtainCertificate,
            project_id=project_id,
            issuance=http_issuance(**changes),
            dry_run=dry_run,
        )

    async def ended(self, order_id: UUID, seconds: float = ORDER_SECONDS) -> Order:
        """Return an order once it has ended."""
        async with asyncio.timeout(seconds):
            while True:
                order = await self.ask(GetOrder, order_id=order_id)
                if order.state is not OrderState.PENDING:
                    return order
                await asyncio.sleep(0.05)

    async def obtained(self, project_id: str = "shop", **changes: Any) -> PublicCertificate:  # noqa: ANN401 - any field
        """Obtain a certificate."""
        return certificate_of(await self.ended((await self.begin(project_id, **changes)).id))

    async def renewed(self, project_id: str = "shop") -> Order:
        """Renew the certificate of a project."""
        begun = await self.ask(RenewPublicCertificate, project_id=project_id)
        return await self.ended(begun.id)

    async def certificate(self, project_id: str = "shop") -> PublicCertificate | None:
        """Return the certificate of a project."""
        found: FoundCertificate = await self.ask(GetPublicCertificate, project_id=project_id)
        return found.certificate

    async def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return type and data of the events so far."""
        rows = await self.tables.run(
            "SELECT event_subject, event FROM acme.outbox WHERE event IS NOT NULL ORDER BY position"
        )
        return [
            (row["event_subject"].removeprefix("certwire.events."), json.loads(row["event"]))
            for row in rows
        ]

    async def actions(self) -> list[tuple[str, str]]:
        """Return action and outcome of the audit records so far."""
        entries = map(
            json.loads, await self.tables.values("SELECT entry FROM acme.outbox ORDER BY position")
        )
        return [(entry["action"], entry["outcome"]) for entry in entries]


def certificate_of(order: Order) -> PublicCertificate:
    """Return what a valid order gave."""
    assert order.state is OrderState.VALID, order
    assert order.certificate is not None
    return order.certificate


def upload_for(domain: str) -> CertificateMaterial:
    """Return a certificate of somebody else's CA with its key, and the chain not in order."""
    root, issuing = Ca("Somebody's Root"), Ca("Somebody's CA")
    above = utc_now() - NOW + 1000 * DAY
    intermediate = root.certify(issuing, ends=above, path_length=0)
    issued = issuing.leaf(domain, ends=utc_now() - NOW + 89 * DAY)
    return CertificateMaterial(
        certificate=pem(root.root(ends=above), intermediate, issued.certificate),
        private_key=key_pem(issued.key),
    )


Find = Callable[[GetHttpChallenge], Awaitable[HttpChallenge]]
"""Asks the acme service: over the bus, or within this process."""


@asynccontextmanager
async def answering(find: Find, port: int) -> AsyncIterator[None]:
    """Answer on the port of http-01 as a gateway does: with what the acme service says."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ")[1]
            try:
                token = path.removeprefix(WELL_KNOWN)
                found = await find(GetHttpChallenge(call=call(), token=token))
                status, body = "200 OK", found.key_authorization.encode()
            except (CertwireError, ValueError):
                status, body = "404 Not Found", b""
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
