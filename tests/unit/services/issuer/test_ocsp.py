"""What the responder says, whoever asks and whatever happens meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as theirs
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

from contracts.certificates import RevocationReason, SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import Revocation, RevokeInstanceCertificates
from contracts.pki import AnswerOcsp, GetCaCertificate, GetCrl
from services.issuer import ocsp
from services.issuer.app import HANDLERS, open_issuer
from services.issuer.authority import Authority
from services.issuer.domain.encoding import sequence
from services.issuer.domain.ocsp import parse_request
from services.issuer.handlers import status
from services.issuer.handlers.platform import (
    revoke_instance_certificates,
    sign_instance_certificate,
)
from services.issuer.keys import KeyAlgorithm
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from services.issuer.store import responders
from services.issuer.store.cas import Ca
from shared.clock import utc_now
from tests.support.csr import csr_pem
from tests.support.running import call
from tests.unit.services.issuer.builders import ACTOR, Hierarchy, loaded, order
from tests.unit.services.issuer.conftest import Records


@pytest.fixture
async def other(settings: IssuerSettings, issuer: Issuer) -> AsyncIterator[Issuer]:
    """Another replica."""
    del issuer
    replica = await open_issuer(settings)
    await replica.authorities.load()
    yield replica
    await replica.runtime.close()


def ca_of(issuer: Issuer) -> tuple[Ca, x509.Certificate]:
    ca, _ = issuer.authorities.signing()
    return ca, x509.load_der_x509_certificate(ca.certificate)


async def leaf(issuer: Issuer) -> tuple[SignedCertificate, x509.Certificate]:
    signed = await sign_instance_certificate(order(csr=csr_pem()), issuer)
    return signed, x509.load_pem_x509_certificate(signed.certificate_pem.encode())


async def revoke(issuer: Issuer, certificate: SignedCertificate) -> None:
    item = Revocation(
        fingerprint=certificate.fingerprint,
        reason=RevocationReason.KEY_COMPROMISE,
        revoked_at=utc_now(),
        actor=ACTOR,
        request_id="r",
    )
    await revoke_instance_certificates(
        RevokeInstanceCertificates(call=call(), revocations=(item,)), issuer
    )


def asking(
    certificate: x509.Certificate, issuer: x509.Certificate, nonce: bytes | None = None
) -> bytes:
    builder = theirs.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1())  # noqa: S303 - what most clients send
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


async def response(issuer: Issuer, request: bytes) -> theirs.OCSPResponse:
    """Return what is answered, after checking what holds for all."""
    ca, issuing = ca_of(issuer)
    answer = await issuer.responders.answer(ca.slug, request)
    parsed = theirs.load_der_ocsp_response(answer.response)
    if parsed.response_status is OCSPResponseStatus.SUCCESSFUL:
        (responder,) = parsed.certificates
        responder.verify_directly_issued_by(issuing)
        assert responder.not_valid_after_utc > utc_now()
        key = responder.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(parsed.signature, parsed.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    return parsed


# --- What it says --------------------------------------------------------------------------------


async def test_good_then_revoked_at_once(issuer: Issuer, other: Issuer) -> None:
    ca, issuing = ca_of(issuer)
    signed, certificate = await leaf(issuer)
    request = asking(certificate, issuing)
    for replica in (issuer, other):
        good = await response(replica, request)
        assert good.certificate_status is OCSPCertStatus.GOOD
        assert good.next_update_utc == good.this_update_utc + timedelta(hours=1)
    await revoke(issuer, signed)
    for replica in (issuer, other):
        revoked = await response(replica, request)
        assert revoked.certificate_status is OCSPCertStatus.REVOKED
        assert revoked.revocation_reason is x509.ReasonFlags.key_compromise
        assert revoked.revocation_time_utc is not None
        assert utc_now() - revoked.revocation_time_utc < timedelta(seconds=10)
    answer = await issuer.responders.answer(ca.slug, request)
    assert answer.this_update is not None
    assert answer.next_update == answer.this_update + timedelta(hours=1)


async def test_a_certificate_that_nobody_issued_is_unknown(issuer: Issuer) -> None:
    ca, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    request = (
        theirs.OCSPRequestBuilder()
        .add_certificate_by_hash(*_hashes(certificate, issuing), 4711, hashes.SHA256())
        .build()
        .public_bytes(Encoding.DER)
    )
    assert (await response(issuer, request)).certificate_status is OCSPCertStatus.UNKNOWN
    answer = await issuer.responders.answer(ca.slug, request)
    assert answer.next_update is None, "it may be issued tomorrow"


def _hashes(certificate: x509.Certificate, issuing: x509.Certificate) -> tuple[bytes, bytes]:
    """Return name and key hash, as another implementation makes them."""
    request = theirs.OCSPRequestBuilder().add_certificate(certificate, issuing, hashes.SHA256())
    built = request.build()
    return built.issuer_name_hash, built.issuer_key_hash


async def test_a_foreign_ca_is_not_spoken_for(issuer: Issuer) -> None:
    foreign = Hierarchy(KeyAlgorithm.P256)
    request = asking(loaded(foreign.issuing), loaded(foreign.root))
    refused = await response(issuer, request)
    assert refused.response_status is OCSPResponseStatus.UNAUTHORIZED


async def test_several_in_one_request(issuer: Issuer) -> None:
    ca, issuing = ca_of(issuer)
    foreign = Hierarchy(KeyAlgorithm.P256)
    good, revoked = await leaf(issuer), await leaf(issuer)
    await revoke(issuer, revoked[0])
    requests = [
        asking(good[1], issuing),
        asking(revoked[1], issuing),
        asking(loaded(foreign.issuing), loaded(foreign.root)),
    ]
    singles = [sequence(parse_request(each).certificates[0].der) for each in requests]
    answer = await issuer.responders.answer(ca.slug, sequence(sequence(sequence(*singles))))
    parsed = theirs.load_der_ocsp_response(answer.response)
    assert [single.certificate_status for single in parsed.responses] == [
        OCSPCertStatus.GOOD,
        OCSPCertStatus.REVOKED,
        OCSPCertStatus.UNKNOWN,
    ]
    assert answer.next_update is None


async def test_repeats_cost_no_signature_and_a_nonce_does(issuer: Issuer) -> None:
    ca, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    plain, with_nonce = asking(certificate, issuing), asking(certificate, issuing, b"n" * 32)
    answers = [await issuer.responders.answer(ca.slug, plain) for _ in range(3)]
    assert len({answer.response for answer in answers}) == 1
    answers = [await issuer.responders.answer(ca.slug, with_nonce) for _ in range(2)]
    assert len({answer.response for answer in answers}) == 2
    for answer in answers:
        extensions = theirs.load_der_ocsp_response(answer.response).extensions
        assert extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
        assert answer.next_update is None


@pytest.mark.parametrize("request_", [b"", b"nonsense", b"\x30\x00", b"\x30\x80" * 500])
async def test_what_is_no_request_is_malformed(issuer: Issuer, request_: bytes) -> None:
    refused = await response(issuer, request_)
    assert refused.response_status is OCSPResponseStatus.MALFORMED_REQUEST


async def test_a_hundred_at_once_are_looked_up_together(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    await response(issuer, asking(certificate, issuing))
    queries, look_up = 0, issuer.responders._look_up._apply

    async def counted(connection: object, items: object) -> object:
        nonlocal queries
        queries += 1
        return await look_up(connection, items)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(issuer.responders._look_up, "_apply", counted)
    request = asking(certificate, issuing)
    answers = await asyncio.gather(*(response(issuer, request) for _ in range(100)))
    assert {answer.certificate_status for answer in answers} == {OCSPCertStatus.GOOD}
    assert queries < 10


@pytest.mark.parametrize("state", ["retired", "deleted"])
async def test_a_ca_that_is_out_of_use_goes_on(
    issuer: Issuer, other: Issuer, records: Records, state: str
) -> None:
    ca, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    await records.rows("UPDATE ca SET state = $1 WHERE id = $2", state, ca.id)
    answer = await response(other, asking(certificate, issuing))
    assert answer.certificate_status is OCSPCertStatus.GOOD


async def test_a_ca_that_ended_stops(issuer: Issuer, records: Records) -> None:
    ca, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    await records.rows("UPDATE ca SET not_after = now() WHERE id = $1", ca.id)
    refused = await response(issuer, asking(certificate, issuing))
    assert refused.response_status is OCSPResponseStatus.UNAUTHORIZED


# --- The responder -------------------------------------------------------------------------------


async def test_many_at_once_make_one_responder_that_is_on_record(
    issuer: Issuer, other: Issuer, records: Records
) -> None:
    ca, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    request = asking(certificate, issuing)
    answers = await asyncio.gather(*(response(each, request) for each in (issuer, other) * 5))
    assert len({answer.certificates[0].serial_number for answer in answers}) == 1
    (row,) = await records.rows(
        "SELECT * FROM certificate WHERE kind = 'ocsp_responder' AND ca_id = $1", ca.id
    )
    assert row["certificate"] == answers[0].certificates[0].public_bytes(Encoding.DER)
    assert (row["ca_id"], row["owner_service"], row["owner_id"]) == (ca.id, "issuer", ca.slug)
    told = [told for told in await records.outbox("cert_create") if told[1]["owner"] == ca.slug]
    ((entry, event),) = told
    assert event["kind"] == "ocsp_responder"
    assert entry["actor"]["id"] == "issuer"
    (stored,) = await records.rows("SELECT * FROM ocsp_responder WHERE ca_id = $1", ca.id)
    assert b"PRIVATE" not in stored["sealed_key"]


async def test_is_replaced_before_it_ends(
    issuer: Issuer, other: Issuer, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    request = asking(certificate, issuing, b"1")
    first = (await response(issuer, request)).certificates
    monkeypatch.setattr(ocsp, "utc_now", lambda: utc_now() + timedelta(days=3))
    assert (await response(issuer, request)).certificates == first
    monkeypatch.setattr(ocsp, "utc_now", lambda: utc_now() + timedelta(days=4))
    await records.rows("UPDATE ocsp_responder SET not_after = not_after - interval '4 days'")
    second = (await response(issuer, request)).certificates
    assert second != first
    monkeypatch.undo()
    assert (await response(other, request)).certificates == second


async def test_the_old_one_goes_on_while_the_ca_cannot_sign(
    issuer: Issuer, other: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    request = asking(certificate, issuing, b"1")

    def fail(_ca: Ca) -> None:
        raise CertwireError(ErrorCode.CA_CANNOT_SIGN)

    for replica in (issuer, other):
        monkeypatch.setattr(replica.authorities, "authority", fail)
    refused = await response(other, request)
    assert refused.response_status is OCSPResponseStatus.INTERNAL_ERROR
    monkeypatch.undo()
    first = (await response(issuer, request)).certificates
    monkeypatch.setattr(issuer.authorities, "authority", fail)
    later = utc_now() + timedelta(days=6)
    monkeypatch.setattr(ocsp, "utc_now", lambda: later)
    assert (await response(issuer, request)).certificates == first
    monkeypatch.setattr(ocsp, "utc_now", lambda: later + timedelta(days=1))
    refused = await response(issuer, request)
    assert refused.response_status is OCSPResponseStatus.INTERNAL_ERROR


async def test_a_key_that_does_not_open_is_replaced(
    issuer: Issuer, other: Issuer, records: Records
) -> None:
    _, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    request = asking(certificate, issuing)
    first = (await response(issuer, request)).certificates
    await records.rows("UPDATE ocsp_responder SET sealed_key = '\\x00'")
    assert (await response(other, request)).certificates != first


async def test_the_cas_key_may_be_sealed_anew_meanwhile(
    issuer: Issuer, other: Issuer, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    request = asking(certificate, issuing)
    await response(other, request)
    await records.rows("DELETE FROM ocsp_responder WHERE ca_id = $1", ca.id)
    await records.rows("UPDATE ca SET sealed_key = sealed_key || '\\x00' WHERE id = $1", ca.id)
    other.responders._open.clear()
    seen: list[Ca] = []

    def opened(row: Ca) -> Authority:
        seen.append(row)
        return issuer.authorities.signing()[1]

    monkeypatch.setattr(other.authorities, "authority", opened)
    await response(other, asking(certificate, issuing, b"a nonce, so that it is signed"))
    assert [row.sealed_key for row in seen] == [(ca.sealed_key or b"") + b"\x00"]


async def test_without_a_database_later_is_better(issuer: Issuer) -> None:
    _, issuing = ca_of(issuer)
    _, certificate = await leaf(issuer)
    request = asking(certificate, issuing)
    await response(issuer, request)
    await issuer.runtime.database.close()
    refused = await response(issuer, request)
    assert refused.response_status is OCSPResponseStatus.TRY_LATER


async def test_memory_is_bounded(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocsp, "MOST_KEPT", 2)
    _, issuing = ca_of(issuer)
    for _ in range(4):
        await response(issuer, asking((await leaf(issuer))[1], issuing))
    assert len(issuer.responders._kept) == 2


# --- What the handlers make of it ----------------------------------------------------------------


async def test_a_slug_counts_in_both_halves_and_nobody_records_the_rest(
    issuer: Issuer, records: Records
) -> None:
    ca, issuing = ca_of(issuer)
    for slug in ("nothing-1", f"another-name-{ca.id}", ca.slug.upper(), ca.slug + "0", str(ca.id)):
        for command in (
            AnswerOcsp(call=call(), slug=slug, request=b""),
            GetCrl(call=call(), slug=slug),
            GetCaCertificate(call=call(), slug=slug),
        ):
            with pytest.raises(CertwireError) as refused:
                await HANDLERS[type(command)](command, issuer)
            assert refused.value.code is ErrorCode.NOT_FOUND
            await issuer.runtime.record_refusal(command, refused.value)
    assert not [
        json.loads(row["entry"])
        for row in await records.rows("SELECT entry FROM outbox")
        if json.loads(row["entry"])["outcome"] == "refused"
    ]
    found = await status.get_ca_certificate(GetCaCertificate(call=call(), slug=ca.slug), issuer)
    assert x509.load_pem_x509_certificate(found.certificate_pem.encode()) == issuing


async def test_a_crl_comes_in_pieces(
    issuer: Issuer, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "PIECE_BYTES", 100)
    ca, _ = ca_of(issuer)
    first = await status.get_crl(GetCrl(call=call(), slug=ca.slug), issuer)
    pieces = [first.piece or b""]
    while sum(map(len, pieces)) < first.size:
        command = GetCrl(
            call=call(), slug=ca.slug, number=first.number, offset=sum(map(len, pieces))
        )
        pieces.append((await status.get_crl(command, issuer)).piece or b"")
    assert all(len(piece) <= 100 for piece in pieces)
    assert len(x509.load_der_x509_crl(b"".join(pieces))) == 0
    known = GetCrl(call=call(), slug=ca.slug, known_number=first.number)
    assert (await status.get_crl(known, issuer)).piece is None
    with pytest.raises(CertwireError) as refused:
        await status.get_crl(GetCrl(call=call(), slug=ca.slug, number=77), issuer)
    assert refused.value.code is ErrorCode.CONFLICT
    (root,) = await records.rows("SELECT slug FROM ca WHERE kind = 'platform_root'")
    assert root["slug"]


async def test_the_look_up_is_by_index(issuer: Issuer) -> None:
    async with issuer.runtime.database.connection() as connection:
        await connection.execute("SET enable_seqscan = off")
        plan = await connection.fetch(f"EXPLAIN {responders._STATUS}", [1, 2], ["a", None])
        await connection.execute("RESET enable_seqscan")
    assert "Seq Scan" not in "\n".join(row[0] for row in plan)
