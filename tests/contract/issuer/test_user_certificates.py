"""Users' certificates over a real bus: two issuers, lost replies, races."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Call, IdempotencyKey
from contracts.pki import CaView, CertificateView, RetireCa, RevokeCertificate, SignCsr
from services.issuer.app import build
from services.issuer.bootstrap import create_platform_ca
from services.issuer.settings import IssuerSettings
from shared.broker import Bus
from shared.settings import Settings
from tests.support.eventually import eventually
from tests.support.registry import Tables
from tests.support.running import bus, call, running
from tests.support.servers import Place, PostgresServer
from tests.unit.services.issuer.user_certificates import csr_of, signing
from tests.unit.services.issuer.users import ADMIN, new_ca

SIGNED = "SELECT id FROM issuer.certificate WHERE kind = 'server' ORDER BY id"


@asynccontextmanager
async def two_issuers(place: Place) -> AsyncIterator[Bus]:
    """Run two of them; return the bus as the gateway has it."""
    settings = place.settings(IssuerSettings)
    await create_platform_ca(settings)
    async with (
        running(await build(settings)),
        running(await build(settings)),
        bus(place.settings(Settings), "gateway") as gateway,
    ):
        yield gateway


@pytest.fixture
async def gateway(bus_place: Place) -> AsyncIterator[Bus]:
    async with two_issuers(bus_place) as gateway:
        yield gateway


@pytest.fixture
async def ca(gateway: Bus) -> CaView:
    return (await gateway.request(new_ca())).ca


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


async def server_ids(tables: Tables) -> list[int]:
    return await tables.values(SIGNED)


def keyed(key: str, seconds: float = 10.0) -> Call:
    idempotency = IdempotencyKey(scope="0" * 64, key=key, request="1" * 64)
    return call(seconds).model_copy(update={"idempotency": idempotency})


async def test_two_issuers_sign_a_hundred_once_each(
    gateway: Bus, ca: CaView, tables: Tables
) -> None:
    views = await asyncio.gather(*(gateway.request(signing(ca)) for _ in range(100)))
    assert len({view.serial_hex for view in views}) == 100
    assert await server_ids(tables) == sorted(view.id for view in views)


async def test_a_lost_reply_is_fetched_again_by_its_key(
    gateway: Bus, ca: CaView, tables: Tables
) -> None:
    csr = csr_of()
    for number in range(5):
        impatient = signing(ca, csr_pem=csr, call=keyed(str(number), seconds=0.002 * (number + 1)))
        with suppress(CertwireError):
            await gateway.request(impatient)
        patient = impatient.model_copy(update={"call": keyed(str(number))})
        view = await gateway.request(patient)
        assert await gateway.request(patient) == view
    assert len(await server_ids(tables)) == 5


async def test_a_repeat_while_the_first_is_under_way_waits_for_it(
    gateway: Bus, ca: CaView, tables: Tables
) -> None:
    command = signing(ca, call=keyed("once"))
    views = await asyncio.gather(*(gateway.request(command) for _ in range(20)))
    assert len({view.id for view in views}) == 1
    assert len(await server_ids(tables)) == 1


async def test_of_twenty_revocations_at_two_issuers_one_succeeds(
    gateway: Bus, ca: CaView, tables: Tables
) -> None:
    view = await gateway.request(signing(ca))

    async def revoke() -> CertificateView | ErrorCode:
        command = RevokeCertificate(call=call(), actor=ADMIN, certificate_id=view.id)
        try:
            return await gateway.request(command)
        except CertwireError as error:
            return error.code

    ends = await asyncio.gather(*(revoke() for _ in range(20)))
    codes = Counter(end for end in ends if isinstance(end, ErrorCode))
    assert codes == {ErrorCode.ALREADY_REVOKED: 19}
    waiting = "SELECT count(*) FROM issuer.outbox WHERE event_subject LIKE '%certificate.revoked'"
    assert await tables.values(waiting) == [1]


async def test_nothing_is_signed_after_a_ca_was_retired(
    gateway: Bus, ca: CaView, tables: Tables
) -> None:
    """The reply is the barrier: what begins after it is refused, by either issuer."""
    await asyncio.gather(*(gateway.request(signing(ca)) for _ in range(10)))  # both have it open
    await gateway.request(RetireCa(call=call(), actor=ADMIN, ca_id=ca.id))

    async def sign(command: SignCsr) -> Any:  # noqa: ANN401 - a reply or a code
        try:
            return await gateway.request(command)
        except CertwireError as error:
            return error.code

    ends = await asyncio.gather(*(sign(signing(ca)) for _ in range(20)))
    assert set(ends) == {ErrorCode.CONFLICT}
    assert len(await server_ids(tables)) == 10


async def test_what_was_answered_is_on_record_though_connections_are_lost(
    gateway: Bus, ca: CaView, tables: Tables
) -> None:
    """Those who wait hear of it, and it goes on afterwards."""
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'issuer'"

    async def sign() -> CertificateView | ErrorCode:
        try:
            return await gateway.request(signing(ca))
        except CertwireError as error:
            return error.code

    signings = [asyncio.create_task(sign()) for _ in range(60)]
    await asyncio.sleep(0.02)
    await tables.run(ended)
    ends = await asyncio.gather(*signings)
    views = {end.id for end in ends if isinstance(end, CertificateView)}
    codes = {end for end in ends if isinstance(end, ErrorCode)}
    assert codes <= {ErrorCode.UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN}
    assert views <= set(await server_ids(tables))

    async def signs_again() -> bool:
        return isinstance(await sign(), CertificateView)

    await eventually(signs_again, "it signs again")
