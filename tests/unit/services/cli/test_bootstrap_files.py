"""The secrets of the first start, as files and as JSON."""

import base64
import json
import stat
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from services.cli.bootstrap_files import OpenedBundle, as_json, write_admin
from shared.clock import utc_now

PASSWORD = "0123456789abcdef"


def certificate(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (subject, issuer)]
    builder = x509.CertificateBuilder(names[1], names[0], key.public_key(), 1)
    now = utc_now()
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(ca_key, hashes.SHA256())


def bundle() -> bytes:
    root_key, issuing_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    above = [
        certificate("issuing", "root", issuing_key, root_key),
        certificate("root", "root", root_key, root_key),
    ]
    leaf = certificate("admin", "issuing", key, issuing_key)
    return pkcs12.serialize_key_and_certificates(
        b"admin", key, leaf, above, BestAvailableEncryption(PASSWORD.encode())
    )


def subjects(pem: str) -> list[str]:
    return [each.subject.rfc4514_string() for each in x509.load_pem_x509_certificates(pem.encode())]


def test_a_bundle_is_opened_into_the_chain_below_the_root() -> None:
    opened = OpenedBundle.of(bundle(), PASSWORD)
    assert subjects(opened.certificate_pem) == ["CN=admin", "CN=issuing"]
    [leaf, _] = x509.load_pem_x509_certificates(opened.certificate_pem.encode())
    assert load_pem_private_key(opened.key_pem.encode(), None).public_key() == leaf.public_key()


def test_the_administrators_files_are_ours_alone(tmp_path: Path) -> None:
    write_admin(tmp_path, bundle(), PASSWORD)
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    names = ("admin.crt", "admin.key", "admin.p12", "admin.p12.password")
    assert files == dict.fromkeys(names, 0o600)


def test_the_json_holds_everything() -> None:
    data = bundle()
    printed = json.loads(as_json("CA", data, PASSWORD, "superuser", "secret"))
    assert base64.b64decode(printed["admin_p12"]) == data
    assert printed["admin_p12_password"] == PASSWORD
    assert printed["superuser"] == {"username": "superuser", "password": "secret"}
    assert subjects(printed["admin_crt"]) == ["CN=admin", "CN=issuing"]
