"""CRLs, CA certificates and OCSP responses, on both ports, for anybody."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import quote

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Message
from contracts.pki import (
    AnswerOcsp,
    CaCertificate,
    Crl,
    GetCaCertificate,
    GetCrl,
    OcspAnswer,
)
from services.gateway import crl_cache, published
from services.gateway.app import Gateway
from shared.clock import utc_now
from tests.support.stand_in import StandIn, client

SLUG = "certwire-issuing-ca-2"
KEY = ec.generate_private_key(ec.SECP256R1())
NOW = utc_now().replace(microsecond=0)
SIGNED = b"\x30\x03\x0a\x01\x00"
"""What stands for a response of the issuer; the gateway does not look at it."""


def made(entries: int = 0, number: int = 1) -> bytes:
    """Return a CRL in DER."""
    builder = x509.CertificateRevocationListBuilder(
        x509.Name([]), last_update=NOW, next_update=NOW + timedelta(days=1)
    ).add_extension(x509.CRLNumber(number), critical=False)
    for serial in range(1, entries + 1):
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder(serial, NOW).build()
        )
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.DER)


@dataclass
class Issuer:
    """Gives out CRLs piece by piece."""

    piece_bytes: int = 100
    number: int = 1
    ends: timedelta = timedelta(days=1)
    changes: int = 0
    """How many times the CRL is replaced between two pieces."""
    ders: dict[int, bytes] = field(default_factory=dict)

    @property
    def der(self) -> bytes:
        return self.ders.setdefault(self.number, made(20, self.number))

    async def get_crl(self, command: GetCrl) -> Message:
        if command.slug != SLUG:
            raise CertwireError(ErrorCode.NOT_FOUND)
        if command.offset and self.changes:
            self.changes -= 1
            self.number += 1
        if command.number not in {None, self.number}:
            raise CertwireError(ErrorCode.CONFLICT)
        piece = self.der[command.offset : command.offset + self.piece_bytes]
        return Crl(
            number=self.number,
            this_update=NOW,
            next_update=utc_now() + self.ends,
            size=len(self.der),
            piece=None if command.known_number == self.number else piece,
        )


@pytest.fixture
def issuer(stand_in: StandIn) -> Issuer:
    issuer = Issuer()
    stand_in.says({GetCrl: issuer.get_crl})
    return issuer


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    """Call the plain port."""
    url = f"http://127.0.0.1:{gateway.http.port}"
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=15) as connection:
        yield connection


@pytest.fixture
async def https(gateway: Gateway, stand_in: StandIn) -> AsyncIterator[httpx2.AsyncClient]:
    """Call the TLS port without a certificate."""
    async with client(gateway, stand_in.authority) as connection:
        yield connection


# --- CRLs ----------------------------------------------------------------------------------------


async def test_a_crl_in_both_forms_on_both_ports(
    http: httpx2.AsyncClient, https: httpx2.AsyncClient, issuer: Issuer
) -> None:
    for port in (http, https):
        der = await port.get(f"/crl/{SLUG}")
        assert (der.status_code, der.headers["content-type"]) == (200, "application/pkix-crl")
        assert der.content == issuer.der
        assert der.headers["cache-control"] == "public, no-cache"
        assert der.headers["last-modified"].endswith("GMT")
        pem = await port.get(f"/crl/{SLUG}.pem")
        assert (pem.status_code, pem.headers["content-type"]) == (200, "application/x-pem-file")
        parsed = x509.load_pem_x509_crl(pem.content)
        assert parsed.public_bytes(Encoding.DER) == issuer.der
        assert parsed.public_bytes(Encoding.PEM) == pem.content


async def test_a_crl_that_is_known_is_not_sent_again(
    http: httpx2.AsyncClient, issuer: Issuer, stand_in: StandIn
) -> None:
    first = await http.get(f"/crl/{SLUG}")
    etag = first.headers["etag"]
    stand_in.heard.clear()
    for asked in (etag, f'"other", W/{etag}', "*"):
        again = await http.get(f"/crl/{SLUG}", headers={"If-None-Match": asked})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert [command.known_number for command in stand_in.heard_of(GetCrl)] == [1, 1, 1]
    pem = await http.get(f"/crl/{SLUG}.pem", headers={"If-None-Match": etag})
    assert pem.status_code == 200, "the other form has a tag of its own"
    issuer.number = 2
    new = await http.get(f"/crl/{SLUG}", headers={"If-None-Match": etag})
    assert (new.status_code, new.content) == (200, issuer.der)


async def test_head_says_the_same_without_a_body(
    http: httpx2.AsyncClient, issuer: Issuer, stand_in: StandIn
) -> None:
    stand_in.says({GetCaCertificate: CaCertificate(certificate_pem=stand_in.authority.ca_pem)})
    for path in (f"/crl/{SLUG}", f"/ca/{SLUG}.pem"):
        head, get = await http.head(path), await http.get(path)
        for name in ("content-type", "content-length", "etag", "cache-control"):
            assert head.headers[name] == get.headers[name]
        assert (head.status_code, head.content) == (200, b"")
    assert issuer.number == 1


async def test_pieces_of_two_lists_are_never_put_together(
    http: httpx2.AsyncClient, issuer: Issuer
) -> None:
    issuer.changes = 3
    answer = await http.get(f"/crl/{SLUG}")
    assert answer.content == issuer.ders[4] == issuer.der
    issuer.changes, issuer.number = 1_000, 10
    assert (await http.get(f"/crl/{SLUG}")).content == issuer.ders[4], "what it has goes on"


async def test_while_the_issuer_is_away_what_is_here_is_given_out(
    http: httpx2.AsyncClient, issuer: Issuer, stand_in: StandIn
) -> None:
    issuer.ends = timedelta(seconds=2)
    assert (await http.get(f"/crl/{SLUG}")).status_code == 200
    stand_in.says({GetCrl: CertwireError(ErrorCode.UNAVAILABLE)})
    assert (await http.get(f"/crl/{SLUG}")).content == issuer.der
    never = await http.get("/crl/another-ca-3")
    assert (never.status_code, never.json()["title"]) == (503, "Service Unavailable")
    async with asyncio.timeout(10):
        while (await http.get(f"/crl/{SLUG}")).status_code == 200:
            await asyncio.sleep(0.1)
    assert (await http.get(f"/crl/{SLUG}")).status_code == 503, "it has ended"


async def test_those_who_wait_share_a_question_and_none_joins_an_older_one(
    http: httpx2.AsyncClient, issuer: Issuer, stand_in: StandIn
) -> None:
    await http.get(f"/crl/{SLUG}")
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(command: GetCrl) -> Message:
        reply = await issuer.get_crl(command)
        asked.set()
        await go_on.wait()
        return reply

    stand_in.says({GetCrl: slow})
    stand_in.heard.clear()
    before = asyncio.create_task(http.get(f"/crl/{SLUG}"))
    await asked.wait()
    issuer.number, issuer.piece_bytes = 2, 10_000
    after = [asyncio.create_task(http.get(f"/crl/{SLUG}")) for _ in range(20)]
    await asyncio.sleep(0.2)
    go_on.set()
    assert (await before).content == issuer.ders[1]
    assert {(await each).content for each in after} == {issuer.ders[2]}
    assert len(stand_in.heard_of(GetCrl)) == 2


async def test_memory_is_bounded(
    http: httpx2.AsyncClient, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crl_cache, "MOST_BYTES", 3 * len(made()))

    async def any_crl(_: GetCrl) -> Message:
        der = made()
        return Crl(number=1, this_update=NOW, next_update=NOW, size=len(der), piece=der)

    stand_in.says({GetCrl: any_crl})
    for number in range(6):
        await http.get(f"/crl/ca-{number}")
    heard = {command.slug: command.known_number for command in stand_in.heard_of(GetCrl)}
    assert len(heard) == 6
    await http.get("/crl/ca-0")
    await http.get("/crl/ca-5")
    assert [command.known_number for command in stand_in.heard_of(GetCrl)][-2:] == [None, 1]


@pytest.mark.parametrize(
    "path",
    [
        "/crl/",
        "/crl/another-ca-2",
        "/crl/Certwire-Issuing-CA-2",
        f"/crl/{SLUG}.der",
        f"/crl/{SLUG}/",
        "/crl/a--2",
        "/crl/%00-2",
        f"/crl/{'a' * 301}",
        f"/ca/{SLUG}",
        f"/ca/{SLUG}.der",
        "/ca/.crt",
        "/ocsp/",
        "/ocsp/nothing-9/AAAA",
    ],
)
async def test_what_is_not_there_is_a_problem(
    http: httpx2.AsyncClient, issuer: Issuer, stand_in: StandIn, path: str
) -> None:
    missing = CertwireError(ErrorCode.NOT_FOUND)
    stand_in.says({GetCaCertificate: missing, AnswerOcsp: missing})
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["status"]) == (404, 404)
    assert answer.headers["content-type"] == "application/problem+json"
    assert issuer.number == 1


async def test_another_method_says_which_are_allowed(http: httpx2.AsyncClient) -> None:
    for path, allowed in ((f"/crl/{SLUG}", "GET, HEAD"), (f"/ocsp/{SLUG}", "POST")):
        answer = await http.delete(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


# --- CA certificates -----------------------------------------------------------------------------


async def test_a_ca_certificate_in_both_forms(http: httpx2.AsyncClient, stand_in: StandIn) -> None:
    certificate = stand_in.authority.issuing
    pem = certificate.public_bytes(Encoding.PEM).decode()
    stand_in.says({GetCaCertificate: CaCertificate(certificate_pem=pem)})
    der = await http.get(f"/ca/{SLUG}.crt")
    assert (der.status_code, der.headers["content-type"]) == (200, "application/pkix-cert")
    assert der.content == certificate.public_bytes(Encoding.DER) == ssl.PEM_cert_to_DER_cert(pem)
    text = await http.get(f"/ca/{SLUG}.pem")
    assert (text.text, text.headers["content-type"]) == (pem, "application/x-pem-file")
    again = await http.get(f"/ca/{SLUG}.crt", headers={"If-None-Match": der.headers["etag"]})
    assert again.status_code == 304
    assert {command.slug for command in stand_in.heard_of(GetCaCertificate)} == {SLUG}


# --- OCSP ----------------------------------------------------------------------------------------


async def test_ocsp_by_post_and_get(
    http: httpx2.AsyncClient, https: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    asked = bytes(range(256))
    ends = utc_now() + timedelta(hours=1)
    stand_in.says({AnswerOcsp: OcspAnswer(response=SIGNED, this_update=NOW, next_update=ends)})
    in_path = quote(base64.b64encode(asked).decode(), safe="")
    assert "%2F" in in_path
    assert "%2B" in in_path
    for port in (http, https):
        posted = await port.post(f"/ocsp/{SLUG}", content=asked)
        got = await port.get(f"/ocsp/{SLUG}/{in_path}")
        unpadded = await port.get(f"/ocsp/{SLUG}/{base64.b64encode(asked).decode().rstrip('=')}")
        for answer in (posted, got, unpadded):
            assert (answer.status_code, answer.content) == (200, SIGNED)
            assert answer.headers["content-type"] == "application/ocsp-response"
        assert posted.headers["cache-control"] == "no-store"
        assert got.headers["cache-control"] == "max-age=300, public, no-transform, must-revalidate"
        assert got.headers["expires"].endswith("GMT")
        head = await port.head(f"/ocsp/{SLUG}/{in_path}")
        assert (head.status_code, head.content) == (200, b"")
        tag = {"If-None-Match": got.headers["etag"]}
        assert (await port.get(f"/ocsp/{SLUG}/{in_path}", headers=tag)).status_code == 304
    assert {command.request for command in stand_in.heard_of(AnswerOcsp)} == {asked}


async def test_a_response_that_is_not_to_be_kept_is_not(
    http: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.says({AnswerOcsp: OcspAnswer(response=SIGNED)})
    answer = await http.get(f"/ocsp/{SLUG}/AAAA")
    assert answer.headers["cache-control"] == "no-store"
    assert "expires" not in answer.headers


async def test_trouble_is_told_in_the_words_of_ocsp(
    http: httpx2.AsyncClient, stand_in: StandIn
) -> None:
    stand_in.says({AnswerOcsp: CertwireError(ErrorCode.UNAVAILABLE)})
    answer = await http.post(f"/ocsp/{SLUG}", content=b"0")
    assert (answer.status_code, answer.content) == (503, published.TRY_LATER)
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/ocsp-response"


@pytest.mark.parametrize("text", ["!", "A", "AAA=A", "%00", "A" * 30_000, "%FF"])
async def test_what_is_no_base64_is_a_malformed_request(
    http: httpx2.AsyncClient, stand_in: StandIn, text: str
) -> None:
    answer = await http.get(f"/ocsp/{SLUG}/{text}")
    assert (answer.status_code, answer.content) == (400, published.MALFORMED)
    assert not stand_in.heard_of(AnswerOcsp)


async def test_a_large_request_is_413(http: httpx2.AsyncClient, stand_in: StandIn) -> None:
    answer = await http.post(f"/ocsp/{SLUG}", content=b"0" * 16_385)
    assert answer.status_code == 413
    assert not stand_in.heard_of(AnswerOcsp)
