"""A renewal, and a part that is killed between any two of its steps.

A renewal goes: request → claim → sign → record → reply → the old one's revocation is told. It is
held in each gap in turn: by letting the next part stand still, or by a lock that the next statement
waits for. Then a part is killed (-9), the renewal is let go on, and in the end

- no certificate is unrecorded: what the instance service does not have is revoked as undelivered,
- none is double: one renewal was recorded, and its certificate is the only one that counts,
- the instance is able to renew: whoever was cut off asks again with what it has.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx2
import pytest

from contracts.subjects import EVENTS_STREAM
from tests.support.client import (
    TRANSPORT_ERRORS,
    Client,
    Workload,
    administrator,
    running,
)
from tests.support.completeness import assert_everything_is_told, streamed
from tests.support.eventually import eventually
from tests.support.platform import OWN_ROW, PARTS, Platform, running_platform

CLAIM_LIFETIME_SECONDS = 4
ABLE_AGAIN_SECONDS = CLAIM_LIFETIME_SECONDS + 20
TOLD_SECONDS = 30
"""The sweeper waits up to 10 s for an issuer that was killed with its command in hand."""
IN_FLIGHT_SECONDS = 0.3
"""What a request takes at most from the caller into the inbox of a part that stands still."""


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """Return a platform that gives up earlier than others do, so that tests need not wait."""
    with running_platform(
        CERTWIRE_INSTANCE_CLAIM_LIFETIME_SECONDS=str(CLAIM_LIFETIME_SECONDS),
        CERTWIRE_DEADLINE_SECONDS="4",
    ) as platform:
        yield platform


@dataclass
class Renewal:
    """One renewal under way, and the instance that waits for it."""

    platform: Platform
    workload: Workload
    _sent: list[asyncio.Task[httpx2.Response]] = field(default_factory=list)

    def send(self) -> None:
        """Send the request."""
        self._sent.append(asyncio.create_task(self._renew()))

    async def _renew(self) -> httpx2.Response:
        async with Client(self.platform, self.workload.identity) as itself:
            return await itself.renew(self.workload, trouble=True)

    async def reply(self) -> httpx2.Response:
        """Return what was answered."""
        return await self._sent[0]

    async def given(self) -> str | None:
        """Return the certificate that the first answer held, None where none came."""
        (sent,) = self._sent
        with suppress(*TRANSPORT_ERRORS):
            response = await sent
            if response.status_code == 200:
                return str(response.json()["cert_pem"])
        return None

    async def exists(self, query: str) -> None:
        """Wait until a query about the instance finds something."""
        await eventually(lambda: self.platform.value(query, self.workload.id), query)


CLAIMED = "SELECT 1 FROM instance.claim WHERE instance_id::text = $1 AND state = 'pending'"
SIGNED = "SELECT 1 FROM issuer.certificate WHERE owner_id = $1 AND renews IS NOT NULL"
RECORDED = "SELECT 1 FROM instance.certificate WHERE instance_id::text = $1 AND superseded_by <> ''"


@pytest.fixture
async def admin(platform: Platform) -> AsyncIterator[Client]:
    """Return the administrator."""
    async with administrator(platform) as admin:
        yield admin


# --- The gaps --------------------------------------------------------------------------------


@asynccontextmanager
async def asked(renewal: Renewal) -> AsyncIterator[None]:
    """The request is on its way; nothing has happened."""
    with renewal.platform.held("instance"):
        renewal.send()
        await asyncio.sleep(IN_FLIGHT_SECONDS)
        yield


@asynccontextmanager
async def claiming(renewal: Renewal) -> AsyncIterator[None]:
    """The statement that claims is in Postgres, and waits for a lock."""
    async with renewal.platform.locked(OWN_ROW, renewal.workload.id):
        renewal.send()
        await renewal.platform.until_waiting("instance")
        yield


@asynccontextmanager
async def claimed(renewal: Renewal) -> AsyncIterator[None]:
    """The claim is committed; the issuer has not begun."""
    with renewal.platform.held("issuer"):
        renewal.send()
        await renewal.exists(CLAIMED)
        yield


@asynccontextmanager
async def signing(renewal: Renewal) -> AsyncIterator[None]:
    """The certificate is made, the statement that records it at the issuer waits for a lock."""
    async with renewal.platform.locked("LOCK TABLE issuer.claim IN EXCLUSIVE MODE"):
        renewal.send()
        await renewal.platform.until_waiting("issuer")
        yield


@asynccontextmanager
async def signed(renewal: Renewal) -> AsyncIterator[None]:
    """The issuer has committed the certificate; the instance service does not know yet."""
    async with AsyncExitStack() as stack:
        with renewal.platform.held("issuer"):
            renewal.send()
            await renewal.exists(CLAIMED)
            await asyncio.sleep(IN_FLIGHT_SECONDS)
            stack.enter_context(renewal.platform.held("instance"))
        await renewal.exists(SIGNED)
        yield


@asynccontextmanager
async def recording(renewal: Renewal) -> AsyncIterator[None]:
    """The statement that records the certificate is in Postgres, and waits for a lock."""
    async with renewal.platform.locked("LOCK TABLE instance.certificate IN EXCLUSIVE MODE"):
        renewal.send()
        await renewal.platform.until_waiting("instance")
        yield


@asynccontextmanager
async def recorded(renewal: Renewal) -> AsyncIterator[None]:
    """Everything is recorded; the reply has not left."""
    async with AsyncExitStack() as stack:
        async with claiming(renewal):
            stack.enter_context(renewal.platform.held("gateway"))
        await renewal.exists(RECORDED)
        yield


@asynccontextmanager
async def answered(renewal: Renewal) -> AsyncIterator[None]:
    """The caller has its certificate; that the old one is revoked is not told to the issuer."""
    async with AsyncExitStack() as stack:
        async with signed(renewal):
            stack.enter_context(renewal.platform.held("issuer"))
        assert (await renewal.reply()).status_code == 200
        yield


Gap = Callable[[Renewal], AbstractAsyncContextManager[None]]
GAPS: tuple[Gap, ...] = (
    asked,
    claiming,
    claimed,
    signing,
    signed,
    recording,
    recorded,
    answered,
)


# --- What must hold ----------------------------------------------------------------------


@pytest.mark.timeout(180)
@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap.__name__)
async def test_a_part_killed_in_between_strands_nobody(
    platform: Platform, admin: Client, gap: Gap
) -> None:
    workloads = {part: await running(admin) for part in PARTS}
    for part, workload in workloads.items():
        renewal = Renewal(platform, workload)
        try:
            async with gap(renewal):
                platform.kill(part)
            await is_able_to_renew(renewal)
            await has_one_certificate(renewal)
        except Exception as error:
            error.add_note(f"{part} was killed in the gap {gap.__name__!r}: {workload.id}")
            raise
    await assert_everything_is_told(platform)


async def test_what_was_signed_and_not_recorded_is_undone(
    platform: Platform, admin: Client
) -> None:
    """Nobody ever gets it; the hour is given back, and everything about it is told."""
    renewal = Renewal(platform, await running(admin))
    async with signed(renewal):
        platform.kill("instance")
    await is_able_to_renew(renewal)
    await has_one_certificate(renewal)
    owner = renewal.workload.id
    (undelivered,) = await platform.values(
        "SELECT fingerprint FROM issuer.certificate"
        " WHERE owner_id = $1 AND revocation_detail = 'undelivered'",
        owner,
    )
    await assert_everything_is_told(platform)
    told = [
        (event.subject.removeprefix("certwire.events.certificate."), json.loads(event.payload))
        for event in await streamed(platform, EVENTS_STREAM)
        if owner.encode() in event.payload and b"fingerprint" in event.payload
    ]
    assert [verb for verb, data in told if data["fingerprint"] == undelivered] == [
        "renewed",
        "revoked",
    ]
    assert [data["reason"] for verb, data in told if verb == "revoked"] == [
        "unspecified",
        "superseded",
    ]
    voided = "SELECT action FROM audit.record WHERE record LIKE '%' || $1 || '%' ORDER BY position"
    assert "claim_void" in await platform.values(voided, owner)


async def is_able_to_renew(renewal: Renewal) -> None:
    """Let the instance ask again, with what it has, until it is answered."""
    platform, workload = renewal.platform, renewal.workload

    async def renewed() -> str | None:
        again = Renewal(platform, workload)
        again.send()
        return await again.given()

    first = await renewal.given()
    pem = await eventually(renewed, "the instance renews", seconds=ABLE_AGAIN_SECONDS)
    assert first in {None, pem}, "two certificates were given out"
    workload.certificate_pem = pem or ""


async def has_one_certificate(renewal: Renewal) -> None:
    """Compare what the services have on record."""
    platform, workload = renewal.platform, renewal.workload
    inventory = await platform.rows(
        "SELECT fingerprint, revoked_at IS NULL AS counts FROM instance.certificate"
        " WHERE instance_id::text = $1 ORDER BY position",
        workload.id,
    )
    assert [row["counts"] for row in inventory] == [False, True], inventory
    assert inventory[1]["fingerprint"] == workload.sha256

    async def issuer_agrees() -> bool:
        rows = await platform.rows(
            "SELECT fingerprint, revoked_at IS NULL AS counts, revocation_detail, recorded"
            " FROM issuer.certificate LEFT JOIN"
            " (SELECT fingerprint, true AS recorded FROM instance.certificate) AS ours"
            " USING (fingerprint) WHERE kind = 'instance' AND owner_id = $1",
            workload.id,
        )
        counting = [row["fingerprint"] for row in rows if row["counts"]]
        undelivered = [row["revocation_detail"] for row in rows if not row["recorded"]]
        return counting == [workload.sha256] and set(undelivered) <= {"undelivered"}

    await eventually(issuer_agrees, "the issuer revoked all others", seconds=TOLD_SECONDS)
    pending = (
        "SELECT count(*) FROM instance.claim WHERE instance_id::text = $1 AND state = 'pending'"
    )
    assert await platform.value(pending, workload.id) == 0
