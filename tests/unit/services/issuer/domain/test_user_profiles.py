"""What is in a user's certificate of each kind, whatever was asked; pkilint and openssl judge."""

import subprocess
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import given
from hypothesis import strategies as st

from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.pki import SubjectNames
from services.issuer.authority import Authority, Certificate
from services.issuer.domain import subjects
from services.issuer.domain.encoding import pem
from services.issuer.domain.identities import Identity
from services.issuer.domain.profiles import (
    USER_KINDS,
    Profile,
    path_length_below,
    user_ca,
    user_leaf,
)
from services.issuer.keys import KeyAlgorithm
from tests.support.csr import new_key
from tests.support.hostile_csr import GREEDY, greedy
from tests.unit.services.issuer.builders import CA_ALGORITHMS, NOW, PUBLIC_URL, key_of, loaded, sign
from tests.unit.services.issuer.linting import findings

SERVER, CLIENT = CertificateKind.SERVER, CertificateKind.CLIENT
DUAL, CA = CertificateKind.DUAL_PURPOSE, CertificateKind.CA
LEAVES = (SERVER, CLIENT, DUAL)
NAMES = {
    SERVER: SubjectNames(
        common_name="api.example.com",
        subject_dn="CN=api.example.com,O=Acme Corp,C=US",
        san_dns_names=("api.example.com", "api-v2.example.com"),
        san_ip_addresses=("10.0.0.42", "2001:db8::1"),
    ),
    CLIENT: SubjectNames(
        common_name="alice@example.com", subject_dn="O=Acme Corp,L=Zürich,ST=ZH,OU=Ops,C=CH"
    ),
    DUAL: SubjectNames(
        common_name="node-1.example.com",
        subject_dn="CN=node-1.example.com",
        san_email_addresses=("ops@example.com",),
        san_dns_names=("node-1.example.com",),
    ),
    CA: SubjectNames(common_name="Partner CA", subject_dn="CN=Partner CA,O=Partner"),
}
USAGES = {
    SERVER: [ExtendedKeyUsageOID.SERVER_AUTH],
    CLIENT: [ExtendedKeyUsageOID.CLIENT_AUTH],
    DUAL: [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
}


@dataclass(frozen=True)
class Root:
    """A user's root CA, open."""

    certificate: Certificate
    authority: Authority


@cache
def root(algorithm: KeyAlgorithm = KeyAlgorithm.P256, path_length: int | None = None) -> Root:
    key, profile = key_of(algorithm, "root"), user_ca(3650, path_length)
    asked = SubjectNames(common_name="Acme Root", subject_dn="CN=Acme Root,O=Acme Corp,C=US")
    identity = subjects.of_request(CA, asked).numbered(1)
    certificate = sign(Authority(identity.subject, key, [CA]), profile, identity, key)
    return Root(
        certificate,
        Authority.open(loaded(certificate), "acme-root-1", key, USER_KINDS, PUBLIC_URL),
    )


def identity_of(kind: CertificateKind) -> Identity:
    return subjects.of_request(kind, NAMES[kind]).numbered(2)


def profile_of(kind: CertificateKind, algorithm: KeyAlgorithm) -> Profile:
    if kind is CA:
        return user_ca(365, None)
    return user_leaf(kind, 365, rsa=isinstance(key_of(algorithm), rsa.RSAPrivateKey))


def issued(
    kind: CertificateKind,
    algorithm: KeyAlgorithm = KeyAlgorithm.P256,
    ca_algorithm: KeyAlgorithm = KeyAlgorithm.P256,
) -> Certificate:
    profile = profile_of(kind, algorithm)
    return sign(root(ca_algorithm).authority, profile, identity_of(kind), key_of(algorithm))


# --- pkilint and openssl -------------------------------------------------------------------------


@pytest.mark.parametrize("ca_algorithm", CA_ALGORITHMS, ids=str)
@pytest.mark.parametrize("algorithm", CA_ALGORITHMS, ids=str)
@pytest.mark.parametrize("kind", sorted(USER_KINDS))
def test_pkilint_finds_nothing(
    kind: CertificateKind, algorithm: KeyAlgorithm, ca_algorithm: KeyAlgorithm
) -> None:
    assert not findings(issued(kind, algorithm, ca_algorithm))


@pytest.mark.parametrize("algorithm", CA_ALGORITHMS, ids=str)
@pytest.mark.parametrize("kind", LEAVES)
def test_openssl_verifies_it_for_its_purpose_only(
    kind: CertificateKind, algorithm: KeyAlgorithm, tmp_path: Path
) -> None:
    (tmp_path / "root").write_text(pem(root(algorithm).certificate.der))
    (tmp_path / "leaf").write_text(pem(issued(kind, algorithm, algorithm).der))

    def verifies(purpose: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose]
        command += ["-attime", str(int(NOW.timestamp())), "-CAfile", "root", "leaf"]
        return (
            subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
        )

    assert verifies("sslserver") == (kind in {SERVER, DUAL})
    assert verifies("sslclient") == (kind in {CLIENT, DUAL})


# --- Contents ------------------------------------------------------------------------------------


def expected_usage(*, ca: bool, key_encipherment: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


@pytest.mark.parametrize("algorithm", CA_ALGORITHMS, ids=str)
@pytest.mark.parametrize("kind", sorted(USER_KINDS))
def test_what_the_key_is_used_for(kind: CertificateKind, algorithm: KeyAlgorithm) -> None:
    extensions = loaded(issued(kind, algorithm)).extensions
    enciphers = algorithm is KeyAlgorithm.RSA2048 and kind in {SERVER, DUAL}
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value == expected_usage(ca=kind is CA, key_encipherment=enciphers)
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca == (kind is CA)
    if kind is CA:
        with pytest.raises(x509.ExtensionNotFound):
            extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    else:
        usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert (list(usages.value), usages.critical) == (USAGES[kind], False)


POINTERS = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.CRL_DISTRIBUTION_POINTS,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
}
KEY = new_key()


@pytest.mark.parametrize("asked", GREEDY)
@pytest.mark.parametrize("kind", sorted(USER_KINDS))
def test_whatever_a_csr_asks_for_the_extensions_are_the_profile_s(
    kind: CertificateKind, asked: str
) -> None:
    csr = x509.load_pem_x509_csr(greedy(asked, KEY, "a.example.com").encode())
    try:
        subject = subjects.of_csr(kind, SubjectNames(), csr)
    except CertwireError as error:  # names that are no such certificate's
        refusal = error.code
    else:
        profile = profile_of(kind, KeyAlgorithm.P256)
        found = loaded(sign(root().authority, profile, subject.numbered(1), KEY)).extensions
        expected = set(POINTERS)
        if kind is not CA:
            expected.add(ExtensionOID.EXTENDED_KEY_USAGE)
        if subject.names:
            expected.add(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        assert {extension.oid for extension in found} == expected
        constraints = found.get_extension_for_class(x509.BasicConstraints).value
        assert constraints.ca == (kind is CA)
        return
    assert refusal in {ErrorCode.INVALID_CSR, ErrorCode.AGAINST_POLICY}


# --- Validity and depth --------------------------------------------------------------------------


@given(
    kind=st.sampled_from(LEAVES),
    days=st.integers(1, 36_500),
    ago=st.timedeltas(timedelta(0), timedelta(days=3649)),
)
def test_none_outlives_its_ca(kind: CertificateKind, days: int, ago: timedelta) -> None:
    begins, ends = NOW - ago, NOW - ago + timedelta(days=3650)
    not_before, not_after = user_leaf(kind, days, rsa=False).validity_at(NOW, begins, ends)
    assert begins <= not_before <= not_after <= ends
    assert not_after - not_before < timedelta(days=days)


def test_a_path_length_counts_down_to_none() -> None:
    assert path_length_below(None) is None
    assert path_length_below(2) == 1
    assert path_length_below(1) == 0
    with pytest.raises(CertwireError) as refused:
        path_length_below(0)
    assert refused.value.code is ErrorCode.AGAINST_POLICY


def test_signs_no_kind_that_it_is_not_for() -> None:
    authority = Authority(x509.Name([]), key_of(KeyAlgorithm.P256), [SERVER])
    with pytest.raises(ValueError, match="does not sign"):
        sign(authority, user_ca(1, None), identity_of(CA), key_of(KeyAlgorithm.P256))
