"""Revocations, OCSP responses and CRLs: the same work for each server."""

import http.client
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.bench.load import Job, drive, http_request
from tests.bench.processes import CpuTimes
from tests.bench.servers import Authority, Measured, ServerError
from tests.bench.work import Work

CONNECTIONS = 16
"""For what is made beforehand."""
LIMIT_SECONDS = 60.0
CERTIFICATES_ASKED_ABOUT = 1000
"""Again and again, by OCSP clients."""
CRL_BYTES = 20_000
REVOKED_AT_ONCE = 50
"""Until the CRL is as long as that."""
FETCH_SECONDS = 30


def of_work(authority: Authority, work: Work) -> Measured:
    """What is measured of an authority."""
    match work:
        case Work.REVOKE:
            return Revocations(authority)
        case Work.OCSP:
            return RepeatedResponses(authority)
        case Work.OCSP_FIRST:
            return Responses(authority)
        case Work.CRL:
            return Crls(authority)
    return authority


@dataclass
class StatusWork:
    """Work with certificates that an authority signed."""

    authority: Authority

    @property
    def name(self) -> str:
        return self.authority.name

    @property
    def version(self) -> str:
        return self.authority.version

    @property
    def port(self) -> int:
        return self.authority.plain_port

    def settle(self) -> float:
        return self.authority.settle()

    def cpu(self) -> CpuTimes:
        return self.authority.cpu()

    def signed(self, count: int) -> list[bytes]:
        """Have certificates made; return the replies' bodies."""
        self.authority.prepare(count)
        return self._all(self.authority.jobs(count), self.authority.port)

    def revoke(self, signed: Sequence[bytes]) -> list[int]:
        """Revoke these certificates; return their serials."""
        jobs = [self.authority.revocation(body) for body in signed]
        bodies = self._all(jobs, self.authority.port)
        return [job.check(body) for job, body in zip(jobs, bodies, strict=True)]

    def _all(self, jobs: Sequence[Job], port: int) -> list[bytes]:
        """The replies' bodies in the order of the jobs, which all have to succeed."""
        run = drive(("127.0.0.1", port), jobs, CONNECTIONS, LIMIT_SECONDS, keep_alive=True)
        bodies = {}
        for sample in run.samples:
            if sample.reply is None or not sample.ok:
                raise ServerError(f"{self.name}, before measuring: {sample}")
            bodies[id(sample.job)] = sample.reply.body
        return [bodies[id(job)] for job in jobs]

    def fetched_crl(self) -> bytes:
        """The CRL as anybody gets it."""
        return fetch(self.authority.plain_port, self.authority.crl_path)


@dataclass
class Revocations(StatusWork):
    """Each job revokes another certificate."""

    waiting: list[bytes] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.authority.port

    def prepare(self, count: int) -> None:
        self.waiting += self.signed(count)
        self.settle()

    def jobs(self, count: int) -> list[Job]:
        return [self.authority.revocation(self.waiting.pop()) for _ in range(count)]

    def discrepancies(self, serials: list[int]) -> list[str]:
        """Also of the CRL: it has to list them, and nothing else."""
        found = self.authority.revocation_discrepancies(serials)
        self.authority.publish()
        listed = listed_serials(self.fetched_crl(), self.authority.issuer)
        missing, extra = len(set(serials) - listed), len(listed - set(serials))
        if missing or extra:
            found.append(f"{self.name}: the CRL lacks {missing} and has {extra} too many")
        return found


@dataclass
class Responses(StatusWork):
    """Each job asks about one certificate; every second one is revoked."""

    waiting: list[Job] = field(default_factory=list)
    verified: set[bytes] = field(default_factory=set)

    def prepare(self, count: int) -> None:
        """Make certificates that nobody has asked about."""
        self.waiting += self._questions(count)
        self.settle()

    def jobs(self, count: int) -> list[Job]:
        return [self.waiting.pop() for _ in range(count)]

    def _questions(self, count: int) -> list[Job]:
        """One about each of `count` new certificates, in a random order."""
        signed = self.signed(count)
        self.revoke(signed[::2])
        self.authority.publish()
        questions = []
        for number, body in enumerate(signed):
            pem = self.authority.certificate_pem(body).encode()
            questions.append(self._job(x509.load_pem_x509_certificate(pem), number % 2 == 0))
        random.Random(0).shuffle(questions)  # noqa: S311 - no secret
        return questions

    def _job(self, certificate: x509.Certificate, revoked: bool) -> Job:  # noqa: FBT001 - a fact
        request = http_request(
            "POST",
            self.authority.ocsp_path,
            f"localhost:{self.port}",
            ocsp_request(certificate, self.authority.issuer),
            {"Content-Type": "application/ocsp-request"},
            keep_alive=True,
        )
        check = partial(self._check, serial=certificate.serial_number, revoked=revoked)
        return Job(request, None, check)

    def _check(self, body: bytes, serial: int, revoked: bool) -> int:  # noqa: FBT001 - a fact
        """Look at the signature of the same bytes once."""
        response = ocsp.load_der_ocsp_response(body)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise ValueError(f"the response is {response.response_status}")
        wanted = ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD
        if response.serial_number != serial or response.certificate_status is not wanted:
            raise ValueError("the response is of another certificate, or status")
        if body not in self.verified:
            check_signature(response, self.authority.issuer)
            self.verified.add(body)
        return serial

    def discrepancies(self, _serials: list[int]) -> list[str]:
        """None: each response was looked at."""
        return []


@dataclass
class RepeatedResponses(Responses):
    """The same certificates are asked about in turn, and each was before it is measured."""

    def prepare(self, _count: int) -> None:
        if not self.waiting:
            self.waiting = self._questions(CERTIFICATES_ASKED_ABOUT)
            self._all(self.waiting, self.authority.plain_port)
            self.settle()

    def jobs(self, count: int) -> list[Job]:
        return list(itertools.islice(itertools.cycle(self.waiting), count))


@dataclass
class Crls(StatusWork):
    """Each job fetches the CRL."""

    revoked: set[int] = field(default_factory=set)
    good: bytes = b""

    def prepare(self, _count: int) -> None:
        """Revoke until the CRL is long enough, once."""
        while len(self.good) < CRL_BYTES:
            self.revoked.update(self.revoke(self.signed(REVOKED_AT_ONCE)))
            self.authority.publish()
            self.good = self.fetched_crl()
            if listed_serials(self.good, self.authority.issuer) != self.revoked:
                raise ServerError(f"{self.name}: the CRL does not list what is revoked")
        self.settle()

    def jobs(self, count: int) -> list[Job]:
        path, host = self.authority.crl_path, f"localhost:{self.port}"
        request = http_request("GET", path, host, b"", {}, keep_alive=True)
        return [Job(request, None, self._check) for _ in range(count)]

    def _check(self, body: bytes) -> int:
        if body != self.good:
            listed = listed_serials(body, self.authority.issuer)
            if listed != self.revoked:
                raise ValueError(f"the CRL lists {len(listed)} of {len(self.revoked)}")
            self.good = body
        return len(body)

    def discrepancies(self, _serials: list[int]) -> list[str]:
        """None: each CRL was looked at."""
        return []


def fetch(port: int, path: str) -> bytes:
    """What a GET over plain HTTP gives."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=FETCH_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise ServerError(f"GET {path}: {response.status} {body[:300]!r}")
    return body


def ocsp_request(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    builder = ocsp.OCSPRequestBuilder()
    # RFC 5019 section 2.1.1, and what clients send.
    builder = builder.add_certificate(certificate, issuer, hashes.SHA1())  # noqa: S303 - a name
    return builder.build().public_bytes(Encoding.DER)


def check_signature(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> None:
    """Raises ValueError unless the issuer signed it, or a responder whom the issuer certified."""
    signer = next(iter(response.certificates), issuer)
    key, algorithm = signer.public_key(), response.signature_hash_algorithm
    if not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
        raise ValueError("the responder has no key on a curve")
    try:
        if signer != issuer:
            signer.verify_directly_issued_by(issuer)
        key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(algorithm))
    except InvalidSignature as error:
        raise ValueError("somebody else signed the response") from error


def listed_serials(crl_der: bytes, issuer: x509.Certificate) -> set[int]:
    """The serials that a CRL lists. Raises ValueError unless it is the issuer's."""
    crl = x509.load_der_x509_crl(crl_der)
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not crl.is_signature_valid(key):
        raise ValueError("another CA signed the CRL")
    return {entry.serial_number for entry in crl}
