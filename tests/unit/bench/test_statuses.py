"""Revocations, responses and CRLs against a small CA that answers over plain HTTP."""

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

from tests.bench.load import Job, http_request
from tests.bench.servers import ServerError
from tests.bench.statuses import (
    Crls,
    RepeatedResponses,
    Responses,
    Revocations,
    StatusWork,
    fetch,
    listed_serials,
    of_work,
)
from tests.bench.work import Work

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
CRL_BYTES = 400


class SmallCa:
    """An authority with one certificate's bytes for each serial; what is wrong with it is set."""

    name = "small"
    version = "1"
    ocsp_path = "/ocsp"
    crl_path = "/crl"

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.other_key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = self._certificate(1)
        self.certificates = {1: self.issuer}
        self.revoked: set[int] = set()
        self.asked: list[int] = []
        self.forgets_revocations = False
        self.signs_with = self.key
        self.tampers = False
        self.port = self.plain_port = 0

    def _certificate(self, serial: int) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"small {serial}")])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "small 1")])
        public_key = self.key.public_key()
        builder = x509.CertificateBuilder(issuer, name, public_key, serial, NOW, NOW + DAY)
        return builder.sign(self.key, hashes.SHA256())

    def sign(self) -> bytes:
        serial = len(self.certificates) + 1
        self.certificates[serial] = self._certificate(serial)
        return self.certificates[serial].public_bytes(Encoding.PEM)

    def respond(self, request: bytes) -> bytes:
        serial = ocsp.load_der_ocsp_request(request).serial_number
        self.asked.append(serial)
        revoked = serial in self.revoked
        builder = ocsp.OCSPResponseBuilder().add_response(
            self.certificates[serial],
            self.issuer,
            hashes.SHA1(),  # noqa: S303 - as the request has it
            ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
            NOW,
            NOW + DAY,
            NOW if revoked else None,
            None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, self.issuer)
        response = builder.sign(self.key, hashes.SHA256())
        der = bytearray(response.public_bytes(Encoding.DER))
        if self.tampers:
            der[der.index(response.signature) + len(response.signature) - 1] ^= 1
        return bytes(der)

    def crl(self) -> bytes:
        builder = x509.CertificateRevocationListBuilder(self.issuer.subject)
        builder = builder.last_update(NOW).next_update(NOW + DAY)
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder(serial, NOW).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.signs_with, hashes.SHA256()).public_bytes(Encoding.DER)

    def answer(self, path: str, body: bytes) -> bytes:
        if path == "/sign":
            return self.sign()
        if path == "/ocsp":
            return self.respond(body)
        if path == "/crl":
            return self.crl()
        serial = int(json.loads(body))
        if not self.forgets_revocations:
            self.revoked.add(serial)
        return b"%d" % serial

    def _job(self, path: str, body: bytes, check: Callable[[bytes], int]) -> Job:
        request = http_request("POST", path, "localhost", body, {}, keep_alive=True)
        return Job(request, None, check)

    def prepare(self, count: int) -> None: ...

    def settle(self) -> float:
        return 0.0

    def cpu(self) -> dict[str, float]:
        return {}

    def discrepancies(self, _serials: list[int]) -> list[str]:
        return []

    def jobs(self, count: int) -> list[Job]:
        return [self._job("/sign", b"", len) for _ in range(count)]

    def certificate_pem(self, body: bytes) -> str:
        return body.decode()

    def revocation(self, body: bytes) -> Job:
        serial = x509.load_pem_x509_certificate(body).serial_number
        return self._job("/revoke", json.dumps(serial).encode(), int)

    def publish(self) -> None: ...

    def revocation_discrepancies(self, _serials: list[int]) -> list[str]:
        return []


@pytest.fixture
def ca(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallCa]:
    monkeypatch.setattr("tests.bench.statuses.CRL_BYTES", CRL_BYTES)
    monkeypatch.setattr("tests.bench.statuses.REVOKED_AT_ONCE", 5)
    small = SmallCa()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            with lock:
                body = small.answer(self.path, self.rfile.read(length))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the same

        def log_message(self, *_arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=partial(server.serve_forever, 0.05))
        thread.start()
        small.port = small.plain_port = server.server_address[1]
        yield small
        server.shutdown()
        thread.join()


def done(work: StatusWork, jobs: list[Job]) -> list[int]:
    """Do the jobs as a run does; return what they say."""
    bodies = work._all(jobs, work.port)
    return [job.check(body) for job, body in zip(jobs, bodies, strict=True)]


def test_every_revocation_is_of_another_certificate(ca: SmallCa) -> None:
    work = Revocations(ca)
    work.prepare(6)
    serials = done(work, work.jobs(6))
    assert set(serials) == ca.revoked
    assert len(ca.revoked) == 6
    assert work.discrepancies(serials) == []


def test_a_crl_that_lacks_a_revocation_is_a_difference(ca: SmallCa) -> None:
    work = Revocations(ca)
    work.prepare(3)
    serials = done(work, work.jobs(3))
    ca.revoked.discard(serials[0])
    ca.revoked.add(99)
    assert work.discrepancies(serials) == ["small: the CRL lacks 1 and has 1 too many"]


def test_half_of_what_is_asked_about_is_revoked_and_nothing_is_asked_twice(ca: SmallCa) -> None:
    work = Responses(ca)
    work.prepare(10)
    serials = done(work, work.jobs(6)) + done(work, work.jobs(4))
    assert len(set(serials)) == 10
    assert len(ca.revoked & set(serials)) == 5
    assert sorted(ca.asked) == sorted(serials)


def test_repeated_questions_are_about_the_same_certificates(
    ca: SmallCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.statuses.CERTIFICATES_ASKED_ABOUT", 4)
    work = RepeatedResponses(ca)
    work.prepare(100)
    assert len(ca.asked) == 4
    work.prepare(100)
    serials = done(work, work.jobs(10))
    assert set(serials) == set(ca.asked)
    assert len(set(serials)) == 4


def test_a_response_with_the_wrong_status_is_refused(ca: SmallCa) -> None:
    ca.forgets_revocations = True
    work = Responses(ca)
    work.prepare(2)
    with pytest.raises(ValueError, match="or status"):
        done(work, work.jobs(2))


def test_a_response_with_another_signature_is_refused(ca: SmallCa) -> None:
    ca.tampers = True
    work = Responses(ca)
    work.prepare(2)
    with pytest.raises(ValueError, match="somebody else signed"):
        done(work, work.jobs(2))


def test_the_crl_is_made_long_enough_once(ca: SmallCa) -> None:
    work = Crls(ca)
    work.prepare(1)
    listed = listed_serials(work.good, ca.issuer)
    assert len(work.good) >= CRL_BYTES
    assert listed == ca.revoked
    work.prepare(1)
    assert ca.revoked == listed
    assert len(done(work, work.jobs(3))) == 3


def test_another_crl_is_refused(ca: SmallCa) -> None:
    work = Crls(ca)
    work.prepare(1)
    ca.revoked.pop()
    with pytest.raises(ValueError, match="the CRL lists"):
        done(work, work.jobs(1))
    ca.signs_with = ca.other_key
    with pytest.raises(ValueError, match="another CA signed"):
        done(work, work.jobs(1))


def test_a_crl_that_does_not_list_what_is_revoked_is_an_error(ca: SmallCa) -> None:
    ca.forgets_revocations = True
    with pytest.raises(ServerError, match="does not list"):
        Crls(ca).prepare(1)


def test_fetch_gives_the_body(ca: SmallCa) -> None:
    assert listed_serials(fetch(ca.port, "/crl"), ca.issuer) == set()


def test_each_work_has_its_class(ca: SmallCa) -> None:
    found = [type(of_work(ca, work)) for work in Work]
    assert found == [SmallCa, SmallCa, Revocations, RepeatedResponses, Responses, Crls]
