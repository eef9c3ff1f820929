"""Hierarchies of users' CAs; pkilint and openssl are the judges."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from contracts.certificates import CertificateKind
from contracts.pki import (
    CaView,
    CertificateView,
    CreateCertificate,
    GetCaChain,
    GetCaPrivateKey,
    KeyType,
    NameConstraints,
    RotateCa,
    SubjectNames,
)
from services.issuer.authority import Authority, Certificate, new_serial
from services.issuer.domain import identities
from services.issuer.domain.encoding import pem
from services.issuer.domain.profiles import GATEWAY
from services.issuer.service import Issuer
from shared.clock import utc_now
from shared.x509 import public_key_der
from tests.support.csr import new_key
from tests.support.running import call
from tests.unit.services.issuer.linting import findings
from tests.unit.services.issuer.users import ADMIN, SUPERUSER, about, ask, made, refusal

KEYS = (
    (KeyType.RSA, 2048),
    (KeyType.EC, 256),
    (KeyType.EC, 384),
    (KeyType.EC, 521),
    (KeyType.ED25519, None),
)
EXAMPLE = NameConstraints(
    permitted_dns_names=("example.com",), excluded_dns_names=("secret.example.com",)
)


async def leaf(issuer: Issuer, ca: CaView, name: str = "www.example.com") -> CertificateView:
    """Make a server's certificate."""
    certificate: CertificateView = (await ask(issuer, new_leaf(ca, name))).certificate
    return certificate


def new_leaf(ca: CaView, name: str) -> CreateCertificate:
    """Return the command that makes a server's certificate."""
    return CreateCertificate(
        call=call(),
        actor=ADMIN,
        ca_id=ca.id,
        names=SubjectNames(common_name=name, subject_dn=f"CN={name}"),
        certificate_type=CertificateKind.SERVER,
        key_type=KeyType.EC,
    )


async def chain_of(issuer: Issuer, ca: CaView) -> list[str]:
    """Return a CA's certificate and those above it."""
    return [one.certificate_pem for one in (await ask(issuer, about(GetCaChain, ca))).cas]


def verifies(tmp_path: Path, certificate_pem: str, chain: list[str]) -> str:
    """Return what openssl says of a certificate, by a chain whose last is trusted."""
    *between, root = chain
    (tmp_path / "root").write_text(root)
    (tmp_path / "between").write_text("".join(between))
    (tmp_path / "leaf").write_text(certificate_pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "root"]
    command += ["-untrusted", "between"] if between else []
    done = subprocess.run(
        [*command, "leaf"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    return "OK" if done.returncode == 0 else done.stderr


def faults(certificate_pem: str) -> list[str]:
    """Return what pkilint finds."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    der = certificate.public_bytes(Encoding.DER)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return findings(Certificate(der, "", "", begin, end))


@pytest.mark.parametrize(("key_type", "key_size"), KEYS)
async def test_chains_verify_at_any_depth(
    issuer: Issuer, tmp_path: Path, key_type: KeyType, key_size: int | None
) -> None:
    key: dict[str, Any] = {"key_type": key_type, "key_size": key_size, "allow_leaf_certs": True}
    ca = await made(issuer, path_length=2, name_constraints=EXAMPLE, **key)
    assert (ca.key_type, ca.key_size) == (key_type, key_size or 256)
    for depth in (1, 2, 3):
        chain = await chain_of(issuer, ca)
        assert len(chain) == depth
        assert not faults(chain[0])
        certificate = await leaf(issuer, ca)
        assert verifies(tmp_path, certificate.certificate_pem, chain) == "OK"
        if depth < 3:
            ca = await made(issuer, f"Acme {depth}", parent_ca_id=ca.id, **key)


@pytest.mark.parametrize(
    ("name", "permitted"),
    [
        ("www.example.com", True),
        ("example.com", True),
        ("www.example.org", False),
        ("notexample.com", False),
        ("a.secret.example.com", False),
    ],
)
async def test_openssl_says_of_name_constraints_what_we_do(
    issuer: Issuer, tmp_path: Path, name: str, *, permitted: bool
) -> None:
    ca = await made(issuer, name_constraints=EXAMPLE)
    certificate = await ask(issuer, about(GetCaPrivateKey, ca))
    key = load_pem_private_key(certificate.private_key_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    own = x509.load_pem_x509_certificate(ca.certificate_pem.encode())
    # Signed behind the platform's back: openssl judges by the CA's certificate alone.
    server = identities.gateway([name])
    forged = Authority(own.subject, key, [GATEWAY.kind], validity=(ca.not_before, ca.not_after))
    signed = forged.sign(
        GATEWAY, server, public_key_der(new_key().public_key()), serial=new_serial(), now=utc_now()
    )
    said = verifies(tmp_path, pem(signed.der), [ca.certificate_pem])
    if permitted:
        assert "subtree violation" not in said
        await leaf(issuer, ca, name)
    else:
        assert "subtree violation" in said
        assert await refusal(issuer, new_leaf(ca, name)) == "against_policy"


async def test_after_a_rotation_old_leaves_verify_by_the_old_chain_and_new_by_the_new(
    issuer: Issuer, tmp_path: Path
) -> None:
    root = await made(issuer, path_length=1)
    old = await made(issuer, "Acme Issuing", parent_ca_id=root.id, allow_leaf_certs=True)
    before = await leaf(issuer, old)
    new = await ask(issuer, about(RotateCa, old, SUPERUSER))
    assert await refusal(issuer, new_leaf(old, "www.example.com")) == "conflict"
    after = await leaf(issuer, new)
    by_old, by_new = await chain_of(issuer, old), await chain_of(issuer, new)
    assert by_old[-1] == by_new[-1]
    assert verifies(tmp_path, before.certificate_pem, by_old) == "OK"
    assert verifies(tmp_path, after.certificate_pem, by_new) == "OK"
    assert verifies(tmp_path, after.certificate_pem, by_old) != "OK"
    assert verifies(tmp_path, before.certificate_pem, by_new) != "OK"
    assert verifies(tmp_path, after.certificate_pem, [by_old[0], *by_new]) == "OK"
    assert not faults(by_new[0])
