"""Bundles as openssl reads them."""

import subprocess
from pathlib import Path

import pytest

from services.issuer import bundles
from services.issuer.domain.profiles import ADMIN
from services.issuer.keys import KeyAlgorithm
from tests.unit.services.issuer.builders import LEAVES, Hierarchy, key_of, sign


def made() -> bundles.Bundle:
    chain, key = Hierarchy(KeyAlgorithm.P256), key_of(KeyAlgorithm.P256)
    certificate = sign(chain.authority, ADMIN, LEAVES[ADMIN], key)
    return bundles.make("a name", key, certificate.der, [chain.issuing.der, chain.root.der])


def opened(data: bytes, password: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "bundle.p12").write_bytes(data)
    command = ["openssl", "pkcs12", "-in", "bundle.p12", "-info", "-nodes"]
    command += ["-passin", f"pass:{password}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_bundle_is_pbes2_with_aes_and_sha256(tmp_path: Path) -> None:
    bundle = made()
    done = opened(bundle.pkcs12, bundle.password, tmp_path)
    assert "MAC: sha256" in done.stderr
    assert done.stderr.count("PBES2, PBKDF2, AES-256-CBC") == 2  # key and certificates
    assert done.stdout.count("BEGIN CERTIFICATE") == 3
    assert "BEGIN PRIVATE KEY" in done.stdout
    assert "friendlyName: a name" in done.stdout


def test_the_legacy_bundle_is_3des_with_sha1(tmp_path: Path) -> None:
    bundle = made()
    done = opened(bundle.legacy, bundle.password, tmp_path)
    assert "MAC: sha1" in done.stderr
    assert done.stderr.count("pbeWithSHA1And3-KeyTripleDES-CBC") == 2
    assert done.stdout.count("BEGIN CERTIFICATE") == 3


@pytest.mark.parametrize("password", ["", "0" * 32])
def test_another_password_does_not_open_it(password: str, tmp_path: Path) -> None:
    bundle = made()
    assert opened(bundle.pkcs12, password, tmp_path).returncode
    assert opened(bundle.legacy, password, tmp_path).returncode


def test_every_password_is_another() -> None:
    passwords = {made().password for _ in range(5)}
    assert len(passwords) == 5
    assert all(len(password) == 32 and int(password, 16) for password in passwords)
