"""CAs that limit us, are away, want more than others, or mean harm: bounded, refused, explained."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from contracts.acme import Order, OrderState
from contracts.errors import CertwireError, ErrorCode
from services.embedded import free_port
from tests.contract.acme.conftest import settings_for, settings_with
from tests.contract.acme.crashing import Replica, answering_for, replica
from tests.contract.acme.dialogue import certificate_of
from tests.support.hostile_ca import DOMAIN, HostileCa, Reply, hostile_ca, problem
from tests.support.pebble import ChallengeDns, Pebble, pebble
from tests.support.registry import Tables
from tests.support.servers import Place


@pytest.fixture
async def hostile() -> AsyncIterator[HostileCa]:
    async with hostile_ca() as server:
        yield server


@pytest.fixture
async def alone(place: Place, hostile: HostileCa) -> AsyncIterator[Replica]:
    async with replica(settings_with(place, hostile)) as one:
        await one.prepare("www", DOMAIN)
        yield one


async def failed(alone: Replica) -> Order:
    """Obtain what the CA does not give."""
    order = await alone.ended((await alone.obtain("www")).id)
    assert order.state is OrderState.FAILED
    assert order.error is not None
    return order


def text_of(order: Order) -> str:
    assert order.error is not None
    return order.error.detail


async def nothing_is_left(tables: Tables) -> bool:
    counts = await tables.values(
        "SELECT count(*) FROM acme.certificate UNION ALL SELECT count(*) FROM acme.http_challenge"
    )
    return counts == [0, 0]


# --- A CA that limits us, or is away ------------------------------------------------------------


async def test_a_rate_limit_is_respected(
    alone: Replica, hostile: HostileCa, tables: Tables
) -> None:
    limited = problem("rateLimited", "too many orders", 429)
    limited.headers.append(("Retry-After", "120"))
    hostile.replies["/new-order"] = limited
    order = await failed(alone)
    assert order.error is not None
    assert order.error.code is ErrorCode.CA_UNAVAILABLE
    assert order.error.retry_after_seconds == 120
    assert "too many orders" in text_of(order)
    asked = len(hostile.asked)
    with pytest.raises(CertwireError) as refused:
        await alone.obtain("www")
    assert refused.value.code is ErrorCode.CA_UNAVAILABLE
    assert refused.value.retry_after_seconds in range(110, 121)
    assert "too many orders" in refused.value.detail
    assert len(hostile.asked) == asked, "the CA was not asked again"
    await tables.run("UPDATE acme.acme_order SET retry_at = now()")
    await tables.run("UPDATE acme.authority SET paused_until = now()")
    assert text_of(await failed(alone))


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("too many certificates", 100_000),
        ('too many failed authorizations (5) for "www.example.com" in the last 1h0m0s', 600),
    ],
)
async def test_a_limit_that_is_long_or_names_a_domain_is_of_one_name_only(
    alone: Replica, hostile: HostileCa, tables: Tables, words: str, seconds: int
) -> None:
    limited = problem("rateLimited", words, 429)
    limited.headers.append(("Retry-After", str(seconds)))
    hostile.replies["/new-order"] = limited
    await failed(alone)
    assert await tables.values("SELECT paused_until FROM acme.authority") == []
    with pytest.raises(CertwireError) as refused:
        await alone.obtain("www")
    assert refused.value.code is ErrorCode.CA_UNAVAILABLE
    await alone.prepare("other", "other.example.com")
    assert (await alone.obtain("other")).state is OrderState.PENDING


async def test_a_ca_that_is_away_is_named_after_some_tries(
    place: Place, hostile: HostileCa
) -> None:
    nowhere = f"https://127.0.0.1:{free_port()}/directory"
    settings = settings_with(place, hostile, acme_directory_url=nowhere)
    async with replica(settings) as one:
        await one.prepare("www", DOMAIN)
        begun = time.monotonic()
        order = await failed(one)
        assert order.error is not None
        assert order.error.code is ErrorCode.CA_UNAVAILABLE
        assert "cannot be reached" in text_of(order)
        assert order.error.retry_after_seconds == 60
        assert time.monotonic() - begun < 15


async def test_trouble_in_the_middle_is_waited_for(
    alone: Replica, hostile: HostileCa, tables: Tables
) -> None:
    busy = Reply("busy", 503, "text/plain", headers=[("Retry-After", "1")])
    refused = {"type": "urn:ietf:params:acme:error:caa", "detail": "CAA forbids it"}
    hostile.authorization["status"] = "valid"
    hostile.replies["/order"] = [
        busy,
        busy,
        Reply({**hostile.order, "status": "invalid", "error": refused}),
    ]
    assert text_of(await failed(alone)) == "The CA refused: CAA forbids it"
    assert len(hostile.asked_at("/order")) == 3
    assert await nothing_is_left(tables)


# --- A CA that means harm -----------------------------------------------------------------------


async def test_a_certificate_for_another_key_is_not_taken(
    alone: Replica, hostile: HostileCa, tables: Tables
) -> None:
    done = {**hostile.order, "status": "valid", "certificate": hostile.url("certificate")}
    hostile.replies["/order"] = Reply(done)
    hostile.replies["/new-order"] = Reply(done, 201, headers=[("Location", hostile.url("order"))])
    order = await failed(alone)
    assert text_of(order).startswith("The CA cannot be understood: its certificate is not")
    assert await nothing_is_left(tables)


async def test_a_token_with_a_path_in_it_is_answered_by_nobody(
    alone: Replica, hostile: HostileCa, tables: Tables
) -> None:
    hostile.challenge["token"] = "../../etc/passwd-and-much-more"
    order = await failed(alone)
    assert text_of(order).startswith("The CA cannot be understood")
    assert hostile.asked_at("/challenge") == []
    assert await nothing_is_left(tables)


async def test_endless_pending_is_asked_seldom_and_given_up(
    alone: Replica, hostile: HostileCa, tables: Tables
) -> None:
    order = await alone.obtain("www")
    work = asyncio.create_task(alone.work())
    await asyncio.sleep(6)
    asked = len(hostile.asked_at("/authorization"))
    assert 3 <= asked <= 10
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await tables.run("UPDATE acme.acme_order SET created_at = now() - interval '3 hours'")
    ended = await alone.ended(order.id)
    assert text_of(ended) == "The CA did not come to an end within 2 h"
    assert await nothing_is_left(tables)


async def test_an_order_that_stays_pending_though_all_is_proved_is_asked_seldom(
    alone: Replica, hostile: HostileCa
) -> None:
    hostile.authorization["status"] = "valid"
    await alone.obtain("www")
    work = asyncio.create_task(alone.work())
    await asyncio.sleep(3)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert 2 <= len(hostile.asked_at("/order")) <= 8


async def test_a_ca_that_wants_the_same_proof_again_and_again_is_given_up(
    alone: Replica, hostile: HostileCa, tables: Tables
) -> None:
    """Each time the authorisation is pending first, and then valid."""
    pending = dict(hostile.authorization)
    valid = Reply({**pending, "status": "valid"})
    hostile.replies["/authorization"] = [Reply(pending), valid] * 50
    order = await failed(alone)
    assert text_of(order).endswith("it wants the same names proved again and again")
    assert len(hostile.asked_at("/challenge")) < 8
    assert await nothing_is_left(tables)


async def test_a_directory_of_former_settings_is_not_asked(
    alone: Replica, hostile: HostileCa, place: Place
) -> None:
    order = await alone.obtain("www")
    asked = len(hostile.asked)
    async with hostile_ca() as other, replica(settings_with(place, other)) as successor:
        ended = await successor.ended(order.id)
    assert text_of(ended) == "The CA of this order is not in the settings any more"
    assert len(hostile.asked) == asked


async def test_a_ca_without_http_01_is_named(alone: Replica, hostile: HostileCa) -> None:
    hostile.challenge["type"] = "tls-alpn-01"
    assert text_of(await failed(alone)) == f"The CA does not offer http-01 for {DOMAIN}"


async def test_a_profile_that_is_not_offered_is_named(place: Place, hostile: HostileCa) -> None:
    hostile.directory["meta"] = {"profiles": {"classic": "https://example.com/classic"}}
    settings = settings_with(place, hostile, acme_profile="shortlived")
    async with replica(settings) as one:
        await one.prepare("www", DOMAIN)
        text = text_of(await failed(one))
    assert text == "The CA has no profile shortlived; it offers classic"


# --- A CA that wants more -----------------------------------------------------------------------


async def test_external_accounts(place: Place, names: ChallengeDns) -> None:
    with pebble(names, external_accounts={"kid-1": b"k" * 32}) as strict:
        async with replica(settings_for(place, strict, names)) as one:
            await one.prepare("a", "a.example.com")
            order = await one.ended((await one.obtain("a")).id)
            assert "wants accounts to be bound" in text_of(order)
        bound = settings_for(
            place,
            strict,
            names,
            acme_eab_kid="kid-1",
            acme_eab_hmac_key="a2tra2" + "tra2" * 9 + "s",
        )
        async with replica(bound) as one, answering_for(one.acme, strict.http_port):
            certificate_of(await one.ended((await one.obtain("a")).id))


async def test_the_preferred_issuer_decides_on_the_chain(
    place: Place, authority: Pebble, names: ChallengeDns, tables: Tables
) -> None:
    from cryptography import x509

    alternate = x509.load_pem_x509_certificate(authority.root(1).encode())
    name = alternate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    settings = settings_for(place, authority, names, acme_preferred_issuer=name)
    async with replica(settings) as one, answering_for(one.acme, authority.http_port):
        await one.prepare("a", "a.example.com")
        certificate_of(await one.ended((await one.obtain("a")).id))
    [pem] = await tables.values("SELECT chain_pem FROM acme.certificate")
    chain = x509.load_pem_x509_certificates(pem.encode())
    assert chain[-1].issuer == alternate.subject
