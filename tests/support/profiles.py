"""What a client certificate of the platform holds, all of it: as it is read here and by openssl."""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from tests.support.csr import Key
from tests.support.platform import Platform
from tests.support.programs import output_of

TRUST_DOMAIN = "certwire.internal"
CRITICAL = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.EXTENDED_KEY_USAGE: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: False,
    ExtensionOID.CRL_DISTRIBUTION_POINTS: False,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: False,
}
"""The extensions of every client certificate, and whether they are critical."""
BY_OPENSSL = {
    "X509v3 Basic Constraints: critical": "CA:FALSE",
    "X509v3 Key Usage: critical": "Digital Signature",
    "X509v3 Extended Key Usage": "TLS Web Client Authentication",
}
"""The values that are the same in all of them, as openssl prints them."""
PRINTED = re.compile(r"^ {12}((?:X509v3|Authority) .+): ?(critical)?\n +(.*)$", re.MULTILINE)
"""An extension with its value, as openssl prints them."""


@dataclass(frozen=True)
class Profile:
    """Whom a certificate names, and for how long."""

    common_name: str
    path: str
    validity: timedelta

    async def check(self, platform: Platform, pem: str, key: Key, directory: Path) -> None:
        """Compare a certificate with it; `key` is the one that it was asked for."""
        certificate = x509.load_pem_x509_certificate(pem.encode())
        self._check_names(certificate)
        assert _public(certificate) == _public(key)
        assert {one.oid: one.critical for one in certificate.extensions} == CRITICAL
        _check_purposes(certificate)
        _check_pointers(platform, certificate)
        lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert lasts == self.validity - timedelta(seconds=1)
        await self._ask_openssl(platform, pem, directory / "leaf.pem")

    def _check_names(self, certificate: x509.Certificate) -> None:
        assert [(one.oid, one.value) for one in certificate.subject] == [
            (NameOID.COMMON_NAME, self.common_name)
        ]
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uri = f"spiffe://{TRUST_DOMAIN}/{self.path}"
        assert list(names) == [x509.UniformResourceIdentifier(uri)]

    async def _ask_openssl(self, platform: Platform, pem: str, path: Path) -> None:
        _write(path, pem)
        strict = ("openssl", "verify", "-x509_strict", "-CAfile", platform.ca_file)
        assert "OK" in await output_of(*strict, "-purpose", "sslclient", path)
        printed = await output_of("openssl", "x509", "-in", path, "-noout", "-text")
        found = re.findall(
            r"^ {12}(X509v3 [^\n]+?|Authority [^\n]+?): ?(critical)?\n +([^\n]*)",
            printed,
            re.MULTILINE,
        )
        assert len(found) == len(CRITICAL), printed
        values = {f"{name}: critical" if marked else name: text for name, marked, text in found}
        assert BY_OPENSSL.items() <= values.items(), printed
        assert (
            values["X509v3 Subject Alternative Name"] == f"URI:spiffe://{TRUST_DOMAIN}/{self.path}"
        )


def agent(label: str) -> Profile:
    """Return an agent's."""
    return Profile(f"agent:{label}", f"agent/{label}", timedelta(days=731))


def admin() -> Profile:
    """Return the administrator's."""
    return Profile("admin", "admin", timedelta(days=731))


def instance(instance_id: str) -> Profile:
    """Return an instance's."""
    name = f"instance:{instance_id}"
    return Profile(name, f"instance/{instance_id}", timedelta(hours=24))


def _public(of: x509.Certificate | Key) -> bytes:
    return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_purposes(certificate: x509.Certificate) -> None:
    extensions = certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints == x509.BasicConstraints(ca=False, path_length=None)
    usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage == x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _check_pointers(platform: Platform, certificate: x509.Certificate) -> None:
    extensions = certificate.extensions
    points = extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    access = extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    urls = [name.value for point in points for name in point.full_name or ()]
    urls += [description.access_location.value for description in access]
    assert len(urls) == 3
    assert all(url.startswith(f"http://127.0.0.1:{platform.http_port}/") for url in urls), urls
    issuer = x509.load_pem_x509_certificates(platform.ca_file.read_bytes())[-1]
    its = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority == x509.AuthorityKeyIdentifier(its.digest, None, None)


def _write(path: Path, pem: str) -> None:
    path.write_text(pem)
