"""Those who check certificates: what they find in one, and where it sends them."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests.support.platform import Platform
from tests.support.programs import outcome_of, output_of


@dataclass
class RelyingParty:
    """Has a directory for its files, and trusts the platform's root alone."""

    platform: Platform
    directory: Path

    def __post_init__(self) -> None:
        self.root, self.issuing = x509.load_pem_x509_certificates(
            self.platform.ca_file.read_bytes()
        )
        self.root_file = self.written("root.pem", self.root)
        self.issuing_file = self.written("issuing.pem", self.issuing)

    def written(self, name: str, certificate: x509.Certificate | str) -> Path:
        """Return a file with a certificate in PEM."""
        path = self.directory / name
        if isinstance(certificate, x509.Certificate):
            certificate = certificate.public_bytes(Encoding.PEM).decode()
        path.write_text(certificate)
        return path

    async def fetched(self, url: str) -> bytes:
        """Return what curl gets over plain HTTP."""
        path = self.directory / "fetched"
        await output_of("curl", "-sS", "--fail", "--max-time", 10, "-o", path, url)
        return path.read_bytes()

    async def crl(self, certificate: x509.Certificate) -> x509.CertificateRevocationList:
        """Return the CRL that a certificate points to."""
        return x509.load_der_x509_crl(await self.fetched(crl_url(certificate)))

    async def verified(self, leaf: Path) -> tuple[int, str]:
        """Check a leaf with openssl, by the CRLs of its issuer and of the root as they are now."""
        crls = self.directory / "crls.pem"
        pem = [
            await self.fetched(f"{crl_url(certificate)}.pem")
            for certificate in (loaded(leaf), self.issuing)
        ]
        crls.write_bytes(b"".join(pem))
        return await outcome_of(
            "openssl", "verify", "-x509_strict", "-crl_check_all", "-CRLfile", crls,
            "-CAfile", self.root_file, "-untrusted", self.issuing_file, leaf,
        )  # fmt: skip


def loaded(path: Path) -> x509.Certificate:
    """Return the certificate of a file."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def crl_url(certificate: x509.Certificate) -> str:
    """Return the one CRL distribution point."""
    (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (name,) = point.full_name or []
    return str(name.value)


def access_url(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> str:
    """Return where the issuer's certificate or OCSP responder is."""
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    (url,) = [
        description.access_location.value
        for description in access.value
        if description.access_method == method
    ]
    return str(url)


OCSP = AuthorityInformationAccessOID.OCSP
CA_ISSUERS = AuthorityInformationAccessOID.CA_ISSUERS
