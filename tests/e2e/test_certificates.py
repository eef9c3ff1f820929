"""What is issued, in the eyes of others: openssl verifies it, pkilint finds no error in it."""

import asyncio
import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from tests.e2e.conversations import Refused
from tests.support.client import Client, registered, running
from tests.support.command_line import PROGRAM
from tests.support.csr import Key, csr_pem, new_key
from tests.support.platform import Platform

LINTER = PROGRAM.with_name("lint_pkix_cert")
NOT_ERRORS = (
    'Invalid URI syntax: "spiffe://',  # a scheme that it does not know (SPIFFE-ID section 2)
    'Invalid domain name syntax: "localhost"',  # it wants a dot (but see RFC 6761 section 6.3)
)
"""What pkilint says of names that have to be as they are."""
KEYS: dict[str, Callable[[], Key]] = {
    "P-256": new_key,
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


async def run(*command: object) -> str:
    """Run a program that has to succeed; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def openssl_verifies(platform: Platform, pem: str, purpose: str, path: Path) -> None:
    """Check a leaf as a strict relying party does."""
    _write(path, pem)
    verify = ("openssl", "verify", "-x509_strict", "-purpose", purpose)
    assert "OK" in await run(*verify, "-CAfile", platform.ca_file, path)
    assert "Signature Algorithm" in await run("openssl", "x509", "-in", path, "-noout", "-text")


async def pkilint_errors(pem: str, path: Path) -> list[str]:
    """Return the errors that pkilint finds."""
    _write(path, pem)
    process = await asyncio.create_subprocess_exec(
        LINTER, "lint", "-s", "ERROR", "-f", "JSON", path, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    found = [
        f"{description['code']} {description.get('message')}"
        for result in json.loads(out)["results"]
        for description in result["finding_descriptions"]
    ]
    return [text for text in found if not any(known in text for known in NOT_ERRORS)]


def _write(path: Path, pem: str) -> None:
    path.write_text(pem)


async def leaf_of(platform: Platform) -> str:
    """Return the certificate that the gateway shows, in PEM."""
    _, writer = await asyncio.open_connection(
        "localhost", platform.https_port, ssl=ssl.create_default_context(cafile=platform.ca_file)
    )
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return ssl.DER_cert_to_PEM_cert(der)


@pytest.mark.parametrize("kind", KEYS)
async def test_others_accept_an_instances_certificate(
    platform: Platform, admin: Client, tmp_path: Path, kind: str
) -> None:
    workload = await registered(admin)
    workload.key = KEYS[kind]()
    workload.takes(await admin.bootstrap(workload))
    await openssl_verifies(platform, workload.certificate_pem, "sslclient", tmp_path / "leaf")
    assert await pkilint_errors(workload.certificate_pem, tmp_path / "leaf") == []


async def test_others_accept_the_platforms_own_certificates(
    platform: Platform, tmp_path: Path
) -> None:
    (admin, *_), cas = (
        x509.load_pem_x509_certificates((platform.bootstrap / name).read_bytes())
        for name in ("admin.crt", "ca.crt")
    )
    gateway = await leaf_of(platform)
    await openssl_verifies(platform, gateway, "sslserver", tmp_path / "gateway")
    admin_pem = pem_of(admin)
    await openssl_verifies(platform, admin_pem, "sslclient", tmp_path / "admin")
    for pem in (gateway, admin_pem, *map(pem_of, cas)):
        assert await pkilint_errors(pem, tmp_path / "linted") == []


def pem_of(certificate: x509.Certificate) -> str:
    return ssl.DER_cert_to_PEM_cert(certificate.public_bytes(Encoding.DER))


async def test_a_renewed_certificate_holds_what_the_profile_says_and_nothing_of_the_csr(
    platform: Platform, admin: Client
) -> None:
    workload = await running(admin)
    csr = csr_pem(
        workload.key,
        common_name="instance:00000000-0000-0000-0000-000000000000",
        extensions=[
            x509.BasicConstraints(ca=True, path_length=None),
            x509.SubjectAlternativeName([x509.DNSName("admin.example.com")]),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        ],
    )
    asked = datetime.now(UTC)
    async with Client(platform, workload.identity) as itself:
        workload.takes(await itself.renew(workload, csr_pem=csr))
    certificate = x509.load_pem_x509_certificate(workload.certificate_pem.encode())

    assert [(attribute.oid, attribute.value) for attribute in certificate.subject] == [
        (NameOID.COMMON_NAME, f"instance:{workload.id}")
    ]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [
        x509.UniformResourceIdentifier(f"spiffe://certwire.internal/instance/{workload.id}")
    ]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    assert certificate.public_key() == workload.key.public_key()

    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert ends - begins == timedelta(hours=24) - timedelta(seconds=1)
    assert timedelta(0) <= asked - begins <= timedelta(seconds=61)
    assert 63 < certificate.serial_number.bit_length() <= 159


async def test_a_certificate_says_where_this_platform_is(platform: Platform, admin: Client) -> None:
    """CRL, OCSP and CA certificate are on the plain port, whichever that is."""
    workload = await running(admin)
    certificate = x509.load_pem_x509_certificate(workload.certificate_pem.encode())
    access = certificate.extensions.get_extension_for_oid(
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS
    ).value
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert isinstance(access, x509.AuthorityInformationAccess)
    found = [description.access_location.value for description in access]
    found += [name.value for point in points for name in point.full_name or ()]
    assert len(found) == 3
    assert all(url.startswith(f"http://127.0.0.1:{platform.http_port}/") for url in found), found


@pytest.mark.parametrize(
    "key",
    [
        lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - it is what is refused
        lambda: rsa.generate_private_key(3, 2048),
        lambda: ec.generate_private_key(ec.SECP224R1()),
        lambda: ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["RSA-1024", "exponent 3", "P-224", "secp256k1"],
)
async def test_a_weak_key_is_an_invalid_csr(
    platform: Platform, admin: Client, key: Callable[[], Key]
) -> None:
    workload = await running(admin)
    async with Client(platform, workload.identity) as itself:
        refused = await itself.renew(workload, csr_pem=csr_pem(key()))
        assert refused == Refused(400, "Invalid CSR")
        workload.takes(await itself.renew(workload))
