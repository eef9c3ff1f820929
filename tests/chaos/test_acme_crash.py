"""An order of a public certificate, and the acme service killed (-9) between any two of its steps.

An order goes: request → key → account → the CA takes it in → proof → finalisation → certificate →
record → reply. It is held in each gap in turn: by a way to the CA on which a request, or its reply,
stands still; by a lock that the next statement waits for. Then the part is killed, the order is let
go on, and in the end

- whoever asked hears that there is a certificate, without asking again, as long as the gateway was
  there and the order had been accepted,
- the CA has issued one, for one order; where the reply was lost that says where the order is, there
  are two orders, and one certificate still: the protocol leaves this gap,
- that certificate is recorded, with its key, once, and no answer to a challenge is left.
"""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared.database import LOST
from tests.support.ca_way import CaWay
from tests.support.client import TRANSPORT_ERRORS, Client, superuser
from tests.support.completeness import assert_everything_is_told
from tests.support.eventually import eventually
from tests.support.public_platform import PublicPlatform, public_platform

LEASE_SECONDS = 2
PATIENCE_SECONDS = 80
"""The gateway's own is 90; a part that was killed is back within a few."""
IN_FLIGHT_SECONDS = 0.3
PROJECTS = "/api/v1/projects"
ISSUED = re.compile(r"Issued certificate serial (\w+)")
TAKEN_IN = re.compile(r"Added order \"")
PROVED = re.compile(r"authz \S+ set VALID")
NOT_PROVED = "HTTP-01 challenge failed: Could not verify domain ownership"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PublicPlatform, CaWay]]:
    """Return a platform whose way to the CA is ours, and which gives an order up early."""
    way = CaWay(tmp_path_factory.mktemp("way"))
    with public_platform(
        way=way, nonces_rejected_percent=0, CERTWIRE_ACME_LEASE_SECONDS=str(LEASE_SECONDS)
    ) as public:
        yield public, way


@dataclass
class Ordered:
    """One project whose certificate is ordered, and what the CA has done since."""

    public: PublicPlatform
    way: CaWay
    root: Client
    project: str
    issued_before: int
    taken_in_before: int
    sent: list[asyncio.Task[httpx2.Response]] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Return the path of the project's certificate."""
        return f"{PROJECTS}/{self.project}/certificate"

    def send(self, what: str = "obtain") -> None:
        """Order it, or its renewal."""
        # An address that the CA has no account for yet: the account is a step of its own.
        body = {"email": f"{self.project}@example.com", "challengeType": "http-01"}
        sending = self.root.call(
            "POST",
            f"{self.path}/{what}",
            {**body, "keyType": "ec"} if what == "obtain" else None,
            trouble=True,
            timeout=PATIENCE_SECONDS + 20,
        )
        self.sent.append(asyncio.create_task(sending))

    async def reply(self) -> httpx2.Response:
        """Return what was answered at last."""
        return await self.sent[-1]

    @property
    def issued(self) -> int:
        """Return how many certificates the CA has issued."""
        return len(ISSUED.findall(self._log)) - self.issued_before

    @property
    def last_serial(self) -> int:
        """Return the serial of the certificate that the CA has issued last."""
        return int(ISSUED.findall(self._log)[-1], 16)

    @property
    def taken_in(self) -> int:
        """Return how many orders the CA has taken in."""
        return len(TAKEN_IN.findall(self._log)) - self.taken_in_before

    @property
    def proved(self) -> int:
        """Return how often the CA has found that a name is ours."""
        return len(PROVED.findall(self._log))

    def has_proved_more_than(self, proved: int) -> Callable[[], Awaitable[bool]]:
        """Return what asks whether the CA has found that once more."""

        async def ask() -> bool:
            return self.proved > proved

        return ask

    @property
    def _log(self) -> str:
        return self.public.authority.log.read_text()

    async def state(self) -> Any:  # noqa: ANN401 - a column
        """Return the state of the last order; None while the database is away."""
        with suppress(*LOST, asyncpg.PostgresError):
            return await self.public.platform.value(
                "SELECT state FROM acme.acme_order WHERE project_id = $1"
                " ORDER BY created_at DESC LIMIT 1",
                self.project,
            )
        return None

    async def has_ended(self) -> None:
        """Wait until the order has given a certificate."""

        async def is_valid() -> bool:
            state = await self.state()
            assert state != "failed"
            return bool(state == "valid")

        await eventually(is_valid, "the order has ended", seconds=PATIENCE_SECONDS)


async def is_whole(public: PublicPlatform) -> bool:
    """Return whether every part is ready, by what the platform says of itself."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        try:
            ready = await http.get(f"http://127.0.0.1:{public.platform.http_port}/readyz")
        except httpx2.TransportError:
            return False
    return ready.status_code == 200


@pytest.fixture
async def ordered(public: tuple[PublicPlatform, CaWay]) -> AsyncIterator[Ordered]:
    """Return a project with a domain, and open the way to the CA."""
    platform, way = public[0].platform, public[1]
    project = f"shop-{next(_numbers)}"
    await eventually(lambda: is_whole(public[0]), "everything is ready", seconds=PATIENCE_SECONDS)
    async with (
        way.open(),
        superuser(platform, address=f"127.0.79.{next(_numbers) + 1}") as root,
    ):
        made = await root.call("POST", f"{PROJECTS}/create", {"id": project, "name": "The shop"})
        assert made.status_code == 201, made.text
        domain = {"domain": f"{project}.example.com"}
        given = await root.call("POST", f"{PROJECTS}/{project}/domain", domain)
        assert given.status_code == 200, given.text
        ordered = Ordered(public[0], way, root, project, 0, 0)
        ordered.issued_before, ordered.taken_in_before = ordered.issued, ordered.taken_in
        yield ordered
        await asyncio.gather(*ordered.sent, return_exceptions=True)


# --- The gaps ------------------------------------------------------------------------------------


def at_ca(place: str, *, after: bool) -> "Gap":
    """Return the gap before a request arrives at the CA, or before its reply comes back."""

    @asynccontextmanager
    async def gap(ordered: Ordered, what: str = "obtain") -> AsyncIterator[None]:
        proved = ordered.proved
        ordered.way.hold(place, after=after)
        ordered.send(what)
        await ordered.way.until_held()
        if place == "answer" and after:  # it has looked, and knows
            await eventually(ordered.has_proved_more_than(proved), "the CA knows that it is ours")
        try:
            yield
        finally:
            ordered.way.let_go()

    gap.__name__ = f"{'after' if after else 'before'}-{place}"
    return gap


@asynccontextmanager
async def recording(ordered: Ordered, what: str = "obtain") -> AsyncIterator[None]:
    """The CA has issued it; the transaction that records it is in Postgres, and waits for a lock.

    It ends the answers to challenges as well, whose table nothing else wants by then.
    """
    platform = ordered.public.platform
    ordered.way.hold("certificate", after=True)
    ordered.send(what)
    await ordered.way.until_held()
    async with platform.locked("LOCK TABLE acme.http_challenge IN EXCLUSIVE MODE"):
        ordered.way.let_go()
        await platform.until_waiting("acme")
        yield


Gap = Callable[[Ordered], AbstractAsyncContextManager[None]]
FORGOTTEN: Gap = at_ca("order", after=True)
"""The CA has taken the order in, and nobody knows where it is."""
FINALIZED: Gap = at_ca("finalize", after=True)
GAPS: tuple[Gap, ...] = (
    at_ca("account", after=False),
    at_ca("account", after=True),
    at_ca("order", after=False),
    FORGOTTEN,
    at_ca("answer", after=False),
    at_ca("answer", after=True),
    at_ca("finalize", after=False),
    FINALIZED,
    at_ca("certificate", after=False),
    at_ca("certificate", after=True),
    recording,
)


# --- What must hold ------------------------------------------------------------------------------


@pytest.mark.timeout(240)
@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap.__name__)
async def test_an_order_survives_the_acme_service(ordered: Ordered, gap: Gap) -> None:
    async with gap(ordered):
        ordered.public.platform.kill("acme")
    reply = await ordered.reply()
    assert reply.status_code == 200, reply.text
    await has_one_certificate(ordered, orders=2 if gap is FORGOTTEN else 1)


@pytest.mark.timeout(240)
async def test_a_ca_that_looks_while_nobody_can_answer_waits_or_says_no(ordered: Ordered) -> None:
    """The gateway waits as long as a CA does. No to a CA is for good: then the caller hears it."""
    ordered.way.hold("answer", after=False, arrives=True)
    ordered.send()
    await ordered.way.until_held()
    ordered.public.platform.kill("acme")
    ordered.way.let_go()
    reply, orders = await ordered.reply(), 1
    if reply.status_code != 200:
        assert (reply.status_code, reply.json()) == (400, {"success": False, "error": NOT_PROVED})
        assert ordered.issued == 0
        ordered.send()
        reply, orders = await ordered.reply(), 2
    assert reply.status_code == 200, reply.text
    await has_one_certificate(ordered, orders=orders)


@pytest.mark.timeout(240)
async def test_an_order_survives_one_death_after_the_other(ordered: Ordered) -> None:
    """Each time it has come a little further."""
    ordered.way.hold("account", after=True)
    ordered.send()
    for following in ("finalize", "certificate", None):
        await ordered.way.until_held()
        ordered.public.platform.kill("acme")
        ordered.way.let_go()
        if following is not None:
            ordered.way.hold(following, after=True)
    reply = await ordered.reply()
    assert reply.status_code == 200, reply.text
    await has_one_certificate(ordered)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("part", ["gateway", "nats", "postgres"])
async def test_an_order_survives_the_other_parts(ordered: Ordered, part: str) -> None:
    async with FINALIZED(ordered):
        ordered.public.platform.kill(part)
    if part == "gateway":
        with pytest.raises(TRANSPORT_ERRORS):
            await ordered.reply()
    await ordered.has_ended()
    await has_one_certificate(ordered)


@pytest.mark.timeout(240)
async def test_a_renewal_survives_between_finalisation_and_record(ordered: Ordered) -> None:
    ordered.send()
    assert (await ordered.reply()).status_code == 200
    before = await leaf_of(ordered)
    async with recording(ordered, "renew"):
        ordered.public.platform.kill("acme")
    reply = await ordered.reply()
    assert reply.status_code == 200, reply.text
    assert await leaf_of(ordered) != before
    await has_one_certificate(ordered, events=["issued", "renewed"])


@pytest.mark.timeout(240)
async def test_a_request_that_was_never_accepted_is_repeated(ordered: Ordered) -> None:
    """It is on its way, and nothing has happened: whoever asked hears that, and asks again."""
    platform = ordered.public.platform
    with platform.held("acme"):
        ordered.send()
        await asyncio.sleep(IN_FLIGHT_SECONDS)
        platform.kill("acme")
    reply = await ordered.reply()
    if reply.status_code != 200:  # NATS has not handed it to the next process
        assert reply.status_code in {503, 504}, reply.text
        assert reply.json()["success"] is False

        async def accepted() -> bool:
            ordered.send()
            return (await ordered.reply()).status_code == 200

        await eventually(accepted, "it is answered", seconds=PATIENCE_SECONDS)
    await has_one_certificate(ordered)


async def has_one_certificate(
    ordered: Ordered, *, orders: int = 1, events: list[str] | None = None
) -> None:
    """Check what the CA has done, what is recorded, and that nothing else is left."""
    platform = ordered.public.platform
    await ordered.has_ended()
    expected = events or ["issued"]
    assert ordered.issued == len(expected)
    assert ordered.taken_in == orders + len(expected) - 1
    leaf, key = (
        await leaf_of(ordered),
        await ordered.root.call("GET", f"{ordered.path}/private-key"),
    )
    assert load_pem_private_key(key.content, None).public_key() == leaf.public_key()
    assert leaf.serial_number == ordered.last_serial
    told = await platform.values(
        "SELECT event_subject FROM acme.outbox WHERE event::jsonb->>'owner' = $1 ORDER BY position",
        ordered.project,
    )
    assert told == [f"certwire.events.certificate.{verb}" for verb in expected]
    for nothing in (
        "SELECT count(*) FROM acme.http_challenge",
        "SELECT count(*) FROM acme.acme_order WHERE state = 'pending' OR sealed_key IS NOT NULL",
    ):
        assert await platform.value(nothing) == 0
    await assert_everything_is_told(platform, seconds=60)


async def leaf_of(ordered: Ordered) -> x509.Certificate:
    """Return the certificate that the project has."""

    async def downloaded() -> httpx2.Response | None:
        try:
            response = await ordered.root.call("GET", f"{ordered.path}/download", trouble=True)
        except TRANSPORT_ERRORS:  # a part is still on its way back
            return None
        return response if response.status_code == 200 else None

    found = await eventually(downloaded, "the certificate is downloaded", seconds=30)
    assert found is not None
    return x509.load_pem_x509_certificate(found.content)
