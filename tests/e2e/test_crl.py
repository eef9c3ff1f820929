"""CRLs and CA certificates as relying parties fetch them, by the URLs in certificates."""

import json
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.agents import AGENTS, enrolled
from tests.support.client import Client, running
from tests.support.eventually import eventually
from tests.support.platform import Platform
from tests.support.programs import output_of
from tests.support.relying_party import CA_ISSUERS, RelyingParty, access_url, crl_url

REVOKED_AT = "SELECT revoked_at FROM issuer.certificate WHERE fingerprint = $1"
WITHIN_SECONDS = 1.5
"""A second, and what a busy machine needs to look."""


@pytest.fixture
def party(platform: Platform, tmp_path: Path) -> RelyingParty:
    return RelyingParty(platform, tmp_path)


async def test_an_instances_certificate_is_refused_within_a_second_of_its_revocation(
    platform: Platform, admin: Client, party: RelyingParty
) -> None:
    workload = await running(admin)
    leaf = party.written("leaf.pem", workload.certificate_pem)
    certificate = x509.load_pem_x509_certificate(leaf.read_bytes())
    assert await party.verified(leaf) == (0, f"{leaf}: OK\n")

    assert (await admin.revoke(workload.id, {"reason": "key compromise"})).status_code == 200
    await eventually(lambda: platform.value(REVOKED_AT, workload.sha256), "the issuer knows of it")
    known = time.monotonic()

    async def listed() -> x509.RevokedCertificate | None:
        crl = await party.crl(certificate)
        return crl.get_revoked_certificate_by_serial_number(certificate.serial_number)

    entry = await eventually(listed, "the CRL lists it", seconds=5)
    assert time.monotonic() - known < WITHIN_SECONDS
    assert entry is not None
    assert entry.revocation_date_utc == (await platform.value(REVOKED_AT, workload.sha256)).replace(
        microsecond=0
    )
    code, said = await party.verified(leaf)
    assert code != 0
    assert "certificate revoked" in said


async def test_an_agents_certificate_is_refused_once_it_is_revoked(
    admin: Client, party: RelyingParty
) -> None:
    agent = await enrolled(admin)
    leaf = party.written("leaf.pem", agent.certificate_pem)
    assert (await party.verified(leaf))[0] == 0
    assert (await admin.call("DELETE", f"{AGENTS}/{agent.label}")).status_code == 200

    async def refused() -> bool:
        return "certificate revoked" in (await party.verified(leaf))[1]

    await eventually(refused, "openssl refuses it")


async def test_others_read_the_crls(party: RelyingParty, admin: Client) -> None:
    await admin.revoke((await running(admin)).id)
    leaf = x509.load_pem_x509_certificate((await running(admin)).certificate_pem.encode())
    for certificate, issuer in ((leaf, party.issuing_file), (party.issuing, party.root_file)):
        path = party.directory / "crl.der"
        path.write_bytes(await party.fetched(crl_url(certificate)))
        said = await output_of(
            "openssl", "crl", "-inform", "DER", "-in", path, "-noout", "-verify", "-CAfile", issuer
        )
        assert said == "verify OK\n"
        linted = json.loads(
            await output_of(
                "lint_crl", "lint", "-t", "CRL", "-p", "PKIX", "-s", "WARNING", "-f", "JSON", path
            )
        )
        assert linted["results"] == []
        gnutls = await output_of("certtool", "--crl-info", "--inder", "--infile", path)
        assert "CRL Number (not critical)" in gnutls


async def test_a_chain_is_built_from_what_certificates_point_to(
    party: RelyingParty, admin: Client
) -> None:
    leaf = x509.load_pem_x509_certificate((await running(admin)).certificate_pem.encode())
    url = access_url(leaf, CA_ISSUERS)
    issuing = x509.load_der_x509_certificate(await party.fetched(url))
    leaf.verify_directly_issued_by(issuing)
    pem = await party.fetched(f"{url.removesuffix('.crt')}.pem")
    assert pem == issuing.public_bytes(Encoding.PEM)
    root = x509.load_der_x509_certificate(await party.fetched(access_url(issuing, CA_ISSUERS)))
    assert (issuing, root) == (party.issuing, party.root)


async def test_the_tls_port_says_the_same(
    platform: Platform, party: RelyingParty, nobody: Client
) -> None:
    url = crl_url(party.issuing)
    path = url.removeprefix(f"http://127.0.0.1:{platform.http_port}")
    answer = await nobody.call("GET", path)
    assert answer.content == await party.fetched(url)
    assert answer.headers["content-type"] == "application/pkix-crl"
    again = await nobody.call("GET", path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


async def test_each_crl_is_an_event_and_an_audit_record(platform: Platform) -> None:
    made = await platform.rows(
        "SELECT ca.slug, number FROM issuer.crl JOIN issuer.ca ON ca.id = crl.ca_id"
    )
    told = await platform.rows(
        "SELECT event::json ->> 'ca' AS slug, (event::json ->> 'number')::bigint AS number"
        " FROM issuer.outbox WHERE event_subject LIKE '%.crl.published'"
        " AND entry::json ->> 'action' = 'crl_publish'"
    )
    assert len(made) >= 2
    assert set(map(tuple, made)) <= set(map(tuple, told))


async def test_the_root_signs_its_next_crl_by_hand(platform: Platform, party: RelyingParty) -> None:
    before = await party.crl(party.issuing)
    said = await platform.succeed("ca", "crl")
    after = await party.crl(party.issuing)
    number = after.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert f"number {number}" in said
    assert after.last_update_utc >= before.last_update_utc
    assert after.is_signature_valid(party.root.public_key())  # type: ignore[arg-type]  # a CA's key signs
