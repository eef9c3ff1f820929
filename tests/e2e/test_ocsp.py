"""OCSP as relying parties ask: openssl, GnuTLS, curl; by the URL in the certificate."""

import base64
import json
import random
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.support.agents import AGENTS, enrolled
from tests.support.client import Client, running
from tests.support.eventually import eventually
from tests.support.platform import Platform
from tests.support.programs import outcome_of, output_of
from tests.support.relying_party import OCSP, RelyingParty, access_url

REVOKED_AT = "SELECT revoked_at FROM issuer.certificate WHERE fingerprint = $1"


@pytest.fixture
def party(platform: Platform, tmp_path: Path) -> RelyingParty:
    return RelyingParty(platform, tmp_path)


async def openssl_asks(party: RelyingParty, url: str, *about: object) -> str:
    """Ask about certificates of the issuing CA; the answer has to verify."""
    return await output_of(
        "openssl", "ocsp", "-issuer", party.issuing_file, "-url", url,
        "-CAfile", party.root_file, "-verify_other", party.issuing_file, *about,
    )  # fmt: skip


def request_of(
    party: RelyingParty, certificate: x509.Certificate, nonce: bytes | None = None
) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        certificate,
        party.issuing,
        hashes.SHA1(),  # noqa: S303 - what most clients send
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


async def test_openssl_hears_good_revoked_and_unknown(
    platform: Platform, admin: Client, party: RelyingParty
) -> None:
    workload, fine = await running(admin), await running(admin)
    leaf = party.written("leaf.pem", workload.certificate_pem)
    other = party.written("other.pem", fine.certificate_pem)
    url = access_url(x509.load_pem_x509_certificate(leaf.read_bytes()), OCSP)
    for options in ((), ("-no_nonce",), ("-sha256",)):
        said = await openssl_asks(party, url, *options, "-cert", leaf)
        assert "Response verify OK" in said
        assert f"{leaf}: good" in said

    assert (await admin.revoke(workload.id, {"reason": "key compromise"})).status_code == 200
    await eventually(lambda: platform.value(REVOKED_AT, workload.sha256), "the issuer knows of it")
    about = ("-cert", leaf, "-cert", other, "-serial", "0x4711")
    for options in ((), ("-no_nonce",)):
        said = await openssl_asks(party, url, *options, *about)
        assert "Response verify OK" in said
        assert f"{leaf}: revoked" in said
        assert f"{other}: good" in said
        assert "0x4711: unknown" in said


async def test_gnutls_hears_good_and_revoked(admin: Client, party: RelyingParty) -> None:
    agent = await enrolled(admin)
    leaf = party.written("leaf.pem", agent.certificate_pem)
    url = access_url(x509.load_pem_x509_certificate(leaf.read_bytes()), OCSP)
    ask = (
        "ocsptool", f"--ask={url}", "--nonce", "--load-issuer", party.issuing_file,
        "--load-cert", leaf, "--load-trust", party.issuing_file,
    )  # fmt: skip
    said = await output_of(*ask)
    assert "Certificate Status: good" in said
    assert "Verifying OCSP Response: Success." in said
    assert (await admin.call("DELETE", f"{AGENTS}/{agent.label}")).status_code == 200

    async def revoked() -> bool:
        return "Certificate Status: revoked" in (await outcome_of(*ask))[1]

    await eventually(revoked, "GnuTLS hears of it")


async def test_the_root_answers_for_the_issuing_ca(party: RelyingParty) -> None:
    said = await output_of(
        "openssl", "ocsp", "-issuer", party.root_file, "-cert", party.issuing_file,
        "-url", access_url(party.issuing, OCSP), "-CAfile", party.root_file,
    )  # fmt: skip
    assert "Response verify OK" in said
    assert f"{party.issuing_file}: good" in said


async def test_a_get_may_be_cached_and_pkilint_finds_nothing(
    admin: Client, party: RelyingParty
) -> None:
    certificate = x509.load_pem_x509_certificate((await running(admin)).certificate_pem.encode())
    url = access_url(certificate, OCSP)
    asked = request_of(party, certificate)
    in_path = quote(base64.b64encode(asked).decode(), safe="")
    path = party.directory / "response"
    head = await output_of("curl", "-sS", "-D", "-", "-o", path, f"{url}/{in_path}")
    assert "content-type: application/ocsp-response" in head
    assert "cache-control: max-age=300, public, no-transform, must-revalidate" in head
    response = ocsp.load_der_ocsp_response(path.read_bytes())
    assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
    linted = json.loads(
        await output_of("lint_ocsp_response", "lint", "-s", "NOTICE", "-f", "JSON", path)
    )
    assert linted["results"] == []
    async with httpx2.AsyncClient(trust_env=False) as http:
        posted = await http.post(url, content=asked)
        with_nonce = await http.post(url, content=request_of(party, certificate, b"n" * 32))
    assert posted.content == path.read_bytes(), "the same response, without another signature"
    assert posted.headers["content-type"] == "application/ocsp-response"
    extensions = ocsp.load_der_ocsp_response(with_nonce.content).extensions
    assert extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32


async def test_hostile_requests_get_an_error_response(admin: Client, party: RelyingParty) -> None:
    certificate = x509.load_pem_x509_certificate((await running(admin)).certificate_pem.encode())
    url = access_url(certificate, OCSP)
    good = request_of(party, certificate, b"n" * 16)
    dice = random.Random(6960)  # noqa: S311 - the same each time
    hostile = [
        b"",
        b"\x00",
        b"\x30\x80",
        b"A" * 16_384,
        good + b"\x00",
        good[:-1],
    ]
    for _ in range(150):
        changed = bytearray(good)
        for _ in range(dice.randint(1, 5)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        hostile.append(bytes(changed[: dice.randint(1, len(changed))]))
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        for body in hostile:
            answer = await http.post(url, content=body)
            assert answer.status_code in {200, 400}, body.hex()
            status = ocsp.load_der_ocsp_response(answer.content).response_status
            assert (status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST) == (
                answer.status_code == 400
            )
            got = await http.get(f"{url}/{quote(base64.b64encode(body).decode(), safe='')}")
            assert got.status_code == answer.status_code or not body
        assert (await http.post(url, content=b"0" * 16_385)).status_code == 413
        nobody = await http.post(url.replace("issuing", "nobody"), content=good)
        assert nobody.status_code == 404
