"""TLS of the gateway: whom it trusts and which certificate it shows, both kept fresh while it runs.

TLS 1.3 only and no session tickets, for a resumed session would let in a client certificate that
ended since. A client certificate is asked for, never required: of those presented only ours come
through the handshake.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from contracts.errors import CertwireError
from contracts.issuer import GetPlatformCa, SignGatewayCertificate
from services.gateway.settings import GatewaySettings
from shared.broker import Bus, own_call
from shared.clock import utc_now
from shared.files import write_private
from shared.identifiers import uuid7

LOG: Final = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 10.0
"""How soon a new issuing CA, or another certificate in the configured files, takes effect."""
RETRY_SECONDS: Final = 0.25
"""While nothing can be served yet."""
RENEW_AT: Final = 2 / 3
"""Of a certificate's lifetime, as for every other certificate of the platform."""


def server_context() -> ssl.SSLContext:
    """Return a context that lacks only trust and certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.verify_mode = ssl.CERT_OPTIONAL
    # The issuing CAs are listed one by one: no need to verify on every handshake who signed them.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(frozen=True)
class Shown:
    """The server certificate in use."""

    leaf: x509.Certificate

    @classmethod
    def from_pem(cls, pem: bytes) -> "Shown":
        """Read the first certificate. Raises ValueError."""
        return cls(x509.load_pem_x509_certificates(pem)[0])

    def is_due(self, now: datetime, ca_pem: str) -> bool:
        """Return whether another one is needed: by age, or because none of these CAs signed it."""
        begins, ends = self.leaf.not_valid_before_utc, self.leaf.not_valid_after_utc
        if now >= begins + (ends - begins) * RENEW_AT:
            return True
        issuers = x509.load_pem_x509_certificates(ca_pem.encode())
        return not any(_signed(issuer, self.leaf) for issuer in issuers)

    def has_expired(self, now: datetime) -> bool:
        """Return whether clients refuse it."""
        return now >= self.leaf.not_valid_after_utc


def _signed(issuer: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


async def _problem_of(step: Callable[[], Awaitable[None]]) -> str | None:
    """Do a step; return what hindered it."""
    try:
        await step()
    except CertwireError as error:
        return error.detail or str(error.code)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        return str(error) or type(error).__name__
    return None


class Tls:
    """The context of the TLS port, with what it needs to be one."""

    def __init__(self, settings: GatewaySettings, bus: Bus) -> None:
        self.context: Final = server_context()
        self.ready: Final = asyncio.Event()
        """Set once there is trust and a certificate: from then on the port can be served."""
        self._bus = bus
        self._settings = settings
        self._directory = settings.home / "gateway"
        self._trust = ""
        self._shown: Shown | None = None
        self._loaded: tuple[int, ...] = ()
        self._request = CertificateRequest.new()
        self._problems: list[str] = []

    def problems(self) -> list[str]:
        """Return what keeps the port from serving."""
        missing = []
        if not self._trust:
            missing.append("the platform's CA certificates")
        if self._shown is None:
            missing.append("a server certificate")
        elif self._shown.has_expired(utc_now()):
            missing.append("a server certificate that has not expired")
        return missing

    def warnings(self) -> list[str]:
        """Return what went wrong last, and hinders nobody yet."""
        return self._problems

    def begin(self) -> None:
        """Take up what the files have and is still good: it serves without an issuer too."""
        try:
            self._adopt(self._trust_file.read_text())
            if self._settings.tls_certificate is not None:
                self._load_configured()
            else:
                shown = Shown.from_pem(self._certificate_file.read_bytes())
                if not shown.has_expired(utc_now()):
                    self._show(shown, self._certificate_file)
        except (OSError, ValueError) as problem:
            LOG.info("nothing to begin with", extra={"problem": str(problem)})

    async def run(self) -> None:
        """Keep everything fresh."""
        while True:
            problems = [
                problem
                for step in (self._refresh_trust, self._refresh_certificate)
                if (problem := await _problem_of(step))
            ]
            if problems and problems != self._problems:
                LOG.warning("TLS is not fresh", extra={"problems": problems})
            self._problems = problems
            await asyncio.sleep(REFRESH_SECONDS if self.ready.is_set() else RETRY_SECONDS)

    async def _refresh_trust(self) -> None:
        platform = await self._bus.request(GetPlatformCa(call=own_call()))
        if platform.ca_pem != self._trust:
            self._adopt(platform.ca_pem)
            self._keep(self._trust_file, platform.ca_pem)

    async def _refresh_certificate(self) -> None:
        """Load changed files; without any, have a new key signed where that is due."""
        if self._settings.tls_certificate is not None:
            self._load_configured()
        elif self._trust and (self._shown is None or self._shown.is_due(utc_now(), self._trust)):
            signed = await self._bus.request(self._request.again())
            pem = self._request.key_pem + signed.chain_pem.encode()
            self._keep(self._certificate_file, pem)
            self._show(Shown.from_pem(pem), self._certificate_file)
            self._request = CertificateRequest.new()
            LOG.info("new server certificate", extra={"not_after": str(signed.not_after)})

    def _load_configured(self) -> None:
        """Load the configured files, and again when they have changed."""
        certificate, key = self._settings.tls_certificate, self._settings.tls_key
        assert certificate is not None  # noqa: S101 - the settings have both or none
        assert key is not None  # noqa: S101 - the settings have both or none
        changed = (certificate.stat().st_mtime_ns, key.stat().st_mtime_ns)
        if changed != self._loaded:
            self._show(Shown.from_pem(certificate.read_bytes()), certificate, key)
            self._loaded = changed

    def _adopt(self, ca_pem: str) -> None:
        """Trust these CAs from the next handshake on."""
        self.context.load_verify_locations(cadata=ca_pem)
        self._trust = ca_pem
        self._announce()

    def _show(self, shown: Shown, certificate: Path, key: Path | None = None) -> None:
        """Show this certificate from the next handshake on."""
        self.context.load_cert_chain(certificate, key)
        self._shown = shown
        self._announce()

    def _announce(self) -> None:
        if self._trust and self._shown is not None:
            self.ready.set()

    def _keep(self, path: Path, content: str | bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, content)

    @property
    def _trust_file(self) -> Path:
        return self._directory / "ca.crt"

    @property
    def _certificate_file(self) -> Path:
        """Key and chain in one file: there are both, and they fit, or there is neither."""
        return self._directory / "server.pem"


@dataclass(frozen=True)
class CertificateRequest:
    """A key, and what asks for its certificate: sent again it is still the same claim."""

    key_pem: bytes
    command: SignGatewayCertificate

    @classmethod
    def new(cls) -> "CertificateRequest":
        """Make a key. The names in the certificate are the issuer's affair."""
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, SHA256())
        return cls(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            SignGatewayCertificate(
                call=own_call(),
                claim_id=uuid7(),
                csr_pem=csr.public_bytes(Encoding.PEM).decode(),
            ),
        )

    def again(self) -> SignGatewayCertificate:
        """Return the command with a deadline of its own."""
        return self.command.model_copy(update={"call": own_call()})
