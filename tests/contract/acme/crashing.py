"""A replica that ends at a chosen moment, and the next one that finds what it left."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import httpx2

from contracts.acme import (
    CreateProject,
    GetHttpChallenge,
    GetOrder,
    HttpChallenge,
    ObtainCertificate,
    Order,
    OrderState,
    RenewPublicCertificate,
    SetDomain,
)
from contracts.subjects import Service
from services.acme.answers import Answers
from services.acme.client import http_client
from services.acme.handlers import orders as handlers
from services.acme.handlers import overview, projects
from services.acme.ordering import Ordering
from services.acme.service import Acme
from services.acme.settings import AcmeSettings
from services.acme.store import orders
from shared.database import Connection, Database
from shared.runtime import Runtime
from tests.contract.acme.dialogue import WRITER, answering, http_issuance
from tests.support.eventually import eventually
from tests.support.running import call

NEVER = 10**9


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Moment:
    """When it ends: before or after the nth of what is counted, commits or requests to the CA."""

    number: int = NEVER
    after: bool = False
    passed: int = 0

    def reached(self, *, after: bool) -> bool:
        """Return whether it is now; the counting happens before."""
        if not after:
            self.passed += 1
        return after == self.after and self.passed == self.number


class CrashingDatabase(Database):
    """A database that the process does not survive the nth commit to."""

    moment = Moment()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with super().transaction() as connection:
            yield connection
            if self.moment.reached(after=False):
                raise Crash
        if self.moment.reached(after=True):
            raise Crash

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Connection]:
        if self.moment.reached(after=False):
            raise Crash
        async with super().statement() as connection:
            yield connection
        if self.moment.reached(after=True):
            raise Crash


class LossyTransport(httpx2.AsyncBaseTransport):
    """A way to the CA on which the nth request, or its reply, is lost."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, moment: Moment) -> None:
        self._inner = inner
        self._moment = moment
        self.urls: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.urls.append(str(request.url))
        if self._moment.reached(after=False):
            raise httpx2.ConnectError("lost", request=request)
        response = await self._inner.handle_async_request(request)
        if self._moment.reached(after=True):
            await response.aclose()
            raise httpx2.ReadError("lost", request=request)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass
class Replica:
    """One process of the acme service, without NATS; it works when it is told to."""

    acme: Acme
    requests: list[str] = field(default_factory=list)

    async def prepare(self, project_id: str, domain: str) -> None:
        """Make a project with a domain."""
        made = CreateProject(call=call(), actor=WRITER, project_id=project_id, name="a")
        await projects.create_project(made, self.acme)
        domain_is = SetDomain(call=call(), actor=WRITER, project_id=project_id, domain=domain)
        await projects.set_domain(domain_is, self.acme)

    async def obtain(self, project_id: str, **changes: object) -> Order:
        """Begin an order."""
        issuance = http_issuance(**changes)
        command = ObtainCertificate(
            call=call(), actor=WRITER, project_id=project_id, issuance=issuance
        )
        return await handlers.obtain_certificate(command, self.acme)

    async def renew(self, project_id: str) -> Order:
        """Begin a renewal."""
        command = RenewPublicCertificate(call=call(), actor=WRITER, project_id=project_id)
        return await handlers.renew_certificate(command, self.acme)

    async def order(self, order_id: UUID) -> Order:
        """Return an order as it is now."""
        return await handlers.get_order(
            GetOrder(call=call(), actor=WRITER, order_id=order_id), self.acme
        )

    async def work(self) -> int:
        """Take the orders that nobody has, and go on with them; return how many there were."""
        lease = uuid4()
        async with self.acme.runtime.database.connection() as connection:
            taken = await orders.claim(connection, lease, 0.0, 10, ())
        for order in taken:
            await Ordering(self.acme, Answers(self.acme)).work(order, lease)
        return len(taken)

    async def ended(self, order_id: UUID) -> Order:
        """Work until an order has ended, and return it."""

        async def has_ended() -> bool:
            await self.work()
            return (await self.order(order_id)).state is not OrderState.PENDING

        await eventually(has_ended, "the order has ended", seconds=60)
        return await self.order(order_id)


@asynccontextmanager
async def replica(
    settings: AcmeSettings, *, commits: Moment | None = None, requests: Moment | None = None
) -> AsyncIterator[Replica]:
    """Start a replica that ends at a moment, if it is given one."""
    runtime = await Runtime.open(Service.ACME, settings)
    await runtime.database.close()
    database = await CrashingDatabase.open(settings, Service.ACME)
    assert isinstance(database, CrashingDatabase)
    database.moment = commits or Moment()
    runtime = Runtime(
        runtime.service, settings, database, runtime.bus_broker, runtime.streams_broker
    )
    http = http_client(settings.acme_ca_bundle)
    lossy = LossyTransport(http._transport, requests or Moment())
    http._transport = lossy
    acme = Acme(runtime, settings, http)
    try:
        yield Replica(acme, lossy.urls)
    finally:
        await acme.close()
        await database.close()


@asynccontextmanager
async def answering_for(acme: Acme, port: int) -> AsyncIterator[None]:
    """Answer http-01 challenges from the database."""

    async def find(command: GetHttpChallenge) -> HttpChallenge:
        return await overview.get_http_challenge(command, acme)

    async with answering(find, port):
        yield
