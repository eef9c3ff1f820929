"""Renewals by the CA's own word (RFC 9773), with `replaces`, and profiles."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from cryptography import x509

from services.acme.client import certificate_id
from services.acme.renewals import Renewals
from tests.contract.acme.conftest import settings_with
from tests.contract.acme.crashing import Replica, replica
from tests.contract.acme.dialogue import certificate_of
from tests.support.acme2certifier import Acme2Certifier, acme2certifier
from tests.support.hostile_ca import Reply, hostile_ca, problem
from tests.support.registry import Tables
from tests.support.servers import Place

TIMES = "SELECT renew_at, ari_check_at, now() AS now, not_before, not_after FROM acme.certificate"


@pytest.fixture(scope="module")
def patient() -> Iterator[Acme2Certifier]:
    with acme2certifier(renewal_at_percent=50, ask_again_seconds=7200) as server:
        yield server


@pytest.fixture
async def alone(place: Place, patient: Acme2Certifier) -> AsyncIterator[Replica]:
    async with replica(settings_with(place, patient, acme_profile="short")) as one:
        await one.prepare("www", "www.example.com")
        certificate_of(await one.ended((await one.obtain("www")).id))
        yield one


async def test_the_window_of_the_ca_counts(alone: Replica, tables: Tables) -> None:
    [before] = await tables.run(TIMES)
    lifetime = before["not_after"] - before["not_before"]
    assert before["renew_at"] - before["not_before"] > lifetime * 0.6, "by lifetime at first"
    assert await Renewals(alone.acme).ask_some() == 1
    [after] = await tables.run(TIMES)
    [ari_id] = await tables.values("SELECT ari_id FROM acme.certificate")
    acme = alone.acme
    window = await acme.client(acme.settings.acme_directory_url).renewal_info(ari_id)
    assert window.start <= after["renew_at"] <= window.end, "by the CA's word"
    assert not window.start <= before["renew_at"] <= window.end or (
        after["renew_at"] == before["renew_at"]
    )
    again = after["ari_check_at"] - after["now"]
    assert timedelta(seconds=7100) < again <= timedelta(seconds=7200)
    assert await Renewals(alone.acme).ask_some() == 0, "not before the CA wants to be asked again"
    await tables.run("UPDATE acme.certificate SET ari_check_at = now()")
    await Renewals(alone.acme).ask_some()
    [again_asked] = await tables.run(TIMES)
    assert again_asked["renew_at"] == after["renew_at"], "a time within the window stays"


async def test_a_renewal_names_what_it_replaces(
    alone: Replica, tables: Tables, patient: Acme2Certifier
) -> None:
    [pem] = await tables.values("SELECT chain_pem FROM acme.certificate")
    replaced = certificate_id(x509.load_pem_x509_certificate(pem.encode()))
    certificate_of(await alone.ended((await alone.renew("www")).id))
    first, second = patient.asked("/acme/neworders")[-2:]
    assert "replaces" not in first
    assert second["replaces"] == replaced
    assert first["profile"] == second["profile"] == "short"


async def test_a_window_in_the_past_is_now(place: Place) -> None:
    with acme2certifier(renew_now=True) as hasty:
        async with replica(settings_with(place, hasty)) as one:
            await one.prepare("www", "www.example.com")
            certificate_of(await one.ended((await one.obtain("www")).id))
            assert await Renewals(one.acme).begin_due(staging=False) == 0
            await Renewals(one.acme).ask_some()
            assert await Renewals(one.acme).begin_due(staging=False) == 1


async def test_an_answer_that_is_none_is_asked_for_later(
    alone: Replica, place: Place, tables: Tables
) -> None:
    del alone
    await tables.run("UPDATE acme.certificate SET ari_check_at = now()")
    [before] = await tables.run(TIMES)
    async with hostile_ca() as hostile, replica(settings_with(place, hostile)) as other:
        [ari_id] = await tables.values("SELECT ari_id FROM acme.certificate")
        hostile.replies[f"/ari/{ari_id}"] = Reply({"suggestedWindow": "soon"})
        assert await Renewals(other.acme).ask_some() == 1
    [after] = await tables.run(TIMES)
    assert after["renew_at"] == before["renew_at"]
    assert after["ari_check_at"] - after["now"] > timedelta(hours=5)


@pytest.mark.parametrize(
    ("kind", "status"), [("alreadyReplaced", 409), ("unauthorized", 403), ("malformed", 404)]
)
async def test_an_order_that_may_not_replace_is_an_order_all_the_same(
    place: Place, tables: Tables, kind: str, status: int
) -> None:
    async with hostile_ca() as hostile, replica(settings_with(place, hostile)) as one:
        await one.prepare("www", "www.example.com")
        order = await one.obtain("www")
        await tables.run("UPDATE acme.acme_order SET replaces = 'YWJj.MTIz'")
        hostile.replies["/new-order"] = [
            problem(kind, "somebody was first", status),
            Reply(hostile.order, 201, headers=[("Location", hostile.url("order"))]),
        ]
        hostile.authorization["status"] = "valid"
        refused = {"type": "urn:ietf:params:acme:error:caa", "detail": "enough"}
        hostile.replies["/order"] = Reply({**hostile.order, "status": "invalid", "error": refused})
        await one.ended(order.id)
        asked = [request.payload for request in hostile.asked_at("/new-order")]
    assert [payload.get("replaces") for payload in asked] == ["YWJj.MTIz", None]
