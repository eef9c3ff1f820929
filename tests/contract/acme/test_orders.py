"""Orders against a real ACME server: what they give, who joins them, and why they fail."""

import pytest
from cryptography import x509

from contracts.acme import DownloadCertificate, GetPrivateKey, OrderState
from contracts.errors import CertwireError, ErrorCode
from tests.contract.acme.dialogue import Dialogue, certificate_of, key_of


async def test_a_certificate_is_obtained_by_http(acme: Dialogue) -> None:
    await acme.project()
    certificate = await acme.obtained()
    assert certificate.domain == "shop.example.com"
    assert await acme.certificate() == certificate
    chain = await acme.ask(DownloadCertificate, project_id="shop")
    leaf = x509.load_pem_x509_certificate(chain.chain_pem.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["shop.example.com"]
    reader = key_of("projects:read", "keys:read")
    key = await acme.ask(GetPrivateKey, project_id="shop", actor=reader)
    assert "BEGIN PRIVATE KEY" in key.private_key_pem
    assert key.fingerprint == chain.fingerprint
    assert [name for name, _ in await acme.events()] == [
        "project.created",
        "project.updated",
        "certificate.issued",
    ]
    assert await acme.tables.values("SELECT count(*) FROM acme.http_challenge") == [0]


async def test_a_renewal_takes_its_place(acme: Dialogue) -> None:
    await acme.project()
    first = await acme.obtained()
    order = await acme.renewed()
    second = certificate_of(order)
    assert second.fingerprint != first.fingerprint
    assert order.renewed_from == first.issued_at
    found = await acme.certificate()
    assert found is not None
    assert found.fingerprint == second.fingerprint
    assert found.last_renew_attempt is not None
    assert found.last_renew_error is None
    name, event = (await acme.events())[-1]
    assert name == "certificate.renewed"
    assert event["renews"] == first.fingerprint


async def test_a_challenge_that_nobody_answers_fails_in_the_specified_words(acme: Dialogue) -> None:
    await acme.project(domain="elsewhere.example.com")
    acme.names.set_a("elsewhere.example.com", "127.0.0.2")
    order = await acme.ended((await acme.begin()).id)
    assert order.state is OrderState.FAILED
    assert order.error is not None
    assert order.error.code is ErrorCode.ORDER_FAILED
    assert order.error.detail == "HTTP-01 challenge failed: Could not verify domain ownership"
    assert "127.0.0.2" in order.error.parameters["reason"]
    assert (await acme.events())[-1][0] == "order.failed"
    assert ("order_fail", "failed") in await acme.actions()


async def test_an_identical_request_joins_the_order_and_another_is_refused(acme: Dialogue) -> None:
    await acme.project()
    first, second = await acme.begin(), await acme.begin()
    assert first.id == second.id
    with pytest.raises(CertwireError) as refused:
        await acme.begin(email="other@example.com")
    assert refused.value.code is ErrorCode.CONFLICT
    certificate_of(await acme.ended(first.id))


async def test_a_dry_run_keeps_nothing(acme: Dialogue) -> None:
    await acme.project()
    order = await acme.ended((await acme.begin(dry_run=True)).id)
    assert certificate_of(order).staging
    assert await acme.certificate() is None
