"""A platform for agents: enrols, bootstraps and renews over real TLS, and fails as it is told to.

It accepts what the real one does: the current certificate, and for the same key the one before. Who
has its API key is told of projects' certificates.
"""

import hashlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.gateway.tls import CertificateRequest as ServerRequest
from services.gateway.tls import server_context
from tests.support.authority import DAY, Authority
from tests.support.live import Pair

TOKEN = "a-token"
INSTANCE = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
RENEW = "/api/certs/agent/renew"
API_KEY = "cwk_an-api-key"
LOSE, CUT, DROP = "lose", "cut", "drop"
"""Faults: the reply is lost; the second half of it is; the call is not even looked at."""
Fault = str | tuple[int, Any, dict[str, str]]


@dataclass
class Deployed:
    """The certificate of a project."""

    domain: str
    pair: Pair
    staging: bool = False


def public_key(of: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _csr(body: dict[str, Any]) -> str:
    return str(body.get("csr", body.get("csr_pem")))


@dataclass
class FakePlatform:
    """What it knows, and how it fails next."""

    authority: Authority = field(default_factory=Authority)
    lifetime: timedelta = DAY
    age: timedelta = timedelta(0)
    """How old certificates are when they are signed."""
    secrets: dict[str, Any] = field(default_factory=lambda: {"api_key": "one"})
    faults: list[Fault | None] = field(default_factory=list)
    """Of the next calls; None is none."""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    issued: list[x509.Certificate] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of enrolments, by their idempotency key."""
    port: int = 0
    projects: dict[str, Deployed | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """What was asked of projects: the ends of the paths."""
    when_asked: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What happens just before the next answer of that kind."""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def current(self) -> x509.Certificate:
        return self.issued[-1]

    def accepts(self, certificate: x509.Certificate, key: bytes | None = None) -> bool:
        """Return whether a renewal may be asked with this certificate, of `key` where named."""
        if certificate == self.current:
            return True
        repeats = key == public_key(self.current)
        return len(self.issued) > 1 and certificate == self.issued[-2] and repeats

    def answer(
        self, path: str, body: dict[str, Any], peer: x509.Certificate | None, key: str | None
    ) -> tuple[int, dict[str, Any]]:
        """Return status and body of an answer."""
        if path.endswith(("/enroll", "/bootstrap")):
            return self._join(path, body, key)
        if peer is None:
            return 403, {"error": "mTLS certificate required"}
        if path.endswith("/secrets/refresh"):
            known = peer == self.current
            return (200, {"agent_secrets": self.secrets}) if known else (401, {"detail": "no"})
        csr = _csr(body)
        wanted = public_key(x509.load_pem_x509_csr(csr.encode()))
        if not self.accepts(peer, wanted):
            return 403, {"error": "Certificate is not accepted"}
        if wanted != public_key(self.current):
            self._sign(csr)
        return 200, self._signed(path)

    def answer_about_project(self, path: str, api_key: str | None) -> tuple[int, Any]:
        """Return status and content of an answer: PEM is a text, everything else JSON."""
        if api_key != API_KEY:
            return 401, {"success": False, "error": "Invalid credentials"}
        _, _, _, _, project, _, *rest = path.split("/")
        what = rest[0] if rest else "certificate"
        self.asked.append(what)
        self.when_asked.pop(what, lambda: None)()
        if project not in self.projects:
            return 404, {"success": False, "error": "Project not found"}
        deployed = self.projects[project]
        if what == "certificate":
            return 200, self._shown(deployed)
        if deployed is None:
            return 404, {"success": False, "error": "No certificate found"}
        pair = deployed.pair
        return 200, {"download": pair.chain_pem, "private-key": pair.key_pem}[what]

    def _shown(self, deployed: Deployed | None) -> dict[str, Any] | None:
        if deployed is None:
            return None
        staging = {"staging": True} if deployed.staging else {}
        return {"domain": deployed.domain, "type": "letsencrypt", **staging}

    def _join(self, path: str, body: dict[str, Any], key: str | None) -> tuple[int, dict[str, Any]]:
        if key in self.answers:
            return 200, self.answers[key or ""]
        if body["token"] != TOKEN or self.answers:
            return 401, {"error": "Invalid enrollment token"}
        self._sign(_csr(body))
        self.answers[key or ""] = self._signed(path)
        return 200, self._signed(path)

    def _sign(self, csr: str) -> None:
        self.issued.append(self.authority.sign_client(csr, self.lifetime, self.age))

    def _signed(self, path: str) -> dict[str, Any]:
        pem = self.current.public_bytes(Encoding.PEM).decode()
        if path.startswith("/internal"):
            return {"cert_pem": pem, "cert_serial": "1", "expires_at": "2026-04-19T12:00:00Z"}
        return {"ok": True, "cert": pem, "caCert": self.authority.ca_pem, "label": "macbook-pro"}

    def write_ca(self, directory: Path) -> Path:
        path = directory / "trusted.crt"
        path.write_text(self.authority.ca_pem)
        return path


class _Handler(BaseHTTPRequestHandler):
    platform: FakePlatform
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        self.platform.calls.append((self.path, body))
        key = self.headers.get("Idempotency-Key")
        self.platform.keys.append(key)
        fault = self.platform.faults.pop(0) if self.platform.faults else None
        if isinstance(fault, tuple):
            self._reply(*fault)
            return
        self.close_connection = fault is not None
        if fault == DROP:
            return
        assert isinstance(self.connection, ssl.SSLSocket)
        der = self.connection.getpeercert(binary_form=True)
        peer = x509.load_der_x509_certificate(der) if der else None
        status, answer = self.platform.answer(self.path, body, peer, key)
        if fault != LOSE:
            self._reply(status, answer, {}, cut=fault == CUT)

    def do_GET(self) -> None:
        fault = self.platform.faults.pop(0) if self.platform.faults else None
        if isinstance(fault, tuple):
            self._reply(*fault)
            return
        self.close_connection = fault is not None
        if fault == DROP:
            return
        api_key = self.headers.get("X-API-Key")
        status, answer = self.platform.answer_about_project(self.path, api_key)
        if fault != LOSE:
            self._reply(status, answer, {}, cut=fault == CUT)

    def _reply(
        self,
        status: int,
        answer: Any,  # noqa: ANN401 - whatever a fault says
        headers: dict[str, str],
        *,
        cut: bool = False,
    ) -> None:
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, *_: Any) -> None:  # noqa: ANN401 - the standard library's own
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:  # noqa: ANN401 - the standard library's own
        """Say nothing of clients that hang up."""


@contextmanager
def serving(platform: FakePlatform, directory: Path) -> Iterator[FakePlatform]:
    """Serve on the platform's port, on a free one the first time."""
    request = ServerRequest.new()
    chain = platform.authority.server_chain(request.command.csr_pem)
    pem = directory / f"server-{hashlib.sha256(chain.encode()).hexdigest()[:8]}.pem"
    pem.write_bytes(request.key_pem + chain.encode())
    context = server_context()
    context.load_verify_locations(cadata=platform.authority.ca_pem)
    context.load_cert_chain(pem)
    handler = type("Handler", (_Handler,), {"platform": platform})
    server = _Server(("127.0.0.1", platform.port), handler)
    platform.port = server.server_port
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield platform
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(SHA256()).hex()
