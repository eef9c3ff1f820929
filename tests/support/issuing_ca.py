"""The platform's issuing CA in the tests' hands: certificates that the platform never makes."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key

from services.issuer.store.sealed import CA_KEY
from shared.clock import utc_now
from shared.secrets import Sealer
from tests.support.authority import Leaf
from tests.support.csr import new_key
from tests.support.platform import Platform

NEWEST = """
SELECT id, certificate, sealed_key FROM issuer.ca
WHERE kind = 'platform_issuing' AND state = 'active' ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True)
class IssuingCa:
    """Who signs, with a key that may be another's."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    async def of(cls, platform: Platform) -> "IssuingCa":
        """Return the one that signs, its key opened."""
        async with platform.superuser() as connection:
            row = await connection.fetchrow(NEWEST)
        assert row is not None
        sealer = Sealer.from_text((platform.home / "secrets" / "kek").read_text())
        key = load_der_private_key(sealer.open(row["sealed_key"], CA_KEY.row(row["id"])), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls(x509.load_der_x509_certificate(row["certificate"]), key)

    def namesake(self) -> "IssuingCa":
        """Return another CA whose certificates say the same of their issuer."""
        return IssuingCa(self.certificate, new_key())

    def copy(
        self,
        certificate: x509.Certificate,
        *,
        serial: int | None = None,
        ends: datetime | None = None,
    ) -> Leaf:
        """Return a certificate like the one given, but for key, serial and time."""
        return copy_of(certificate, self.certificate.subject, self.key, serial=serial, ends=ends)


def self_signed(certificate: x509.Certificate) -> Leaf:
    """Return a certificate like the one given, with its serial, signed by its own key."""
    key = new_key()
    return copy_of(certificate, certificate.subject, key, key=key, serial=certificate.serial_number)


def copy_of(
    certificate: x509.Certificate,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    serial: int | None = None,
    ends: datetime | None = None,
) -> Leaf:
    """Return a copy, a day old and good for a day unless it `ends` earlier."""
    key = key or new_key()
    now = utc_now()
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(ends or now + timedelta(days=1))
    )
    for extension in certificate.extensions:
        if not isinstance(extension.value, x509.SubjectKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return Leaf(builder.sign(signer, SHA256()), key)
