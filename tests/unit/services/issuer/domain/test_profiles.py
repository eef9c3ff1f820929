"""What is in a certificate of each kind; pkilint and openssl are the judges."""

import subprocess
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from contracts.certificates import CertificateKind
from services.issuer.authority import Certificate
from services.issuer.domain import identities
from services.issuer.domain.encoding import pem
from services.issuer.domain.profiles import (
    ADMIN,
    AGENT,
    GATEWAY,
    INSTANCE,
    ISSUING_CA,
    PLATFORM_LEAVES,
    ROOT_CA,
    Profile,
)
from services.issuer.keys import KeyAlgorithm
from tests.unit.services.issuer.builders import (
    CA_ALGORITHMS,
    INSTANCE_ID,
    LEAVES,
    NOW,
    PUBLIC_URL,
    Hierarchy,
    key_of,
    loaded,
    sign,
)
from tests.unit.services.issuer.linting import findings


@cache
def hierarchy(algorithm: KeyAlgorithm = KeyAlgorithm.P256) -> Hierarchy:
    return Hierarchy(algorithm)


def leaf(
    profile: Profile,
    algorithm: KeyAlgorithm = KeyAlgorithm.P256,
    ca_algorithm: KeyAlgorithm = KeyAlgorithm.P256,
) -> Certificate:
    authority = hierarchy(ca_algorithm).authority
    return sign(authority, profile, LEAVES[profile], key_of(algorithm))


# --- pkilint -------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", CA_ALGORITHMS)
def test_pkilint_finds_nothing_in_a_ca(algorithm: KeyAlgorithm) -> None:
    assert not findings(hierarchy(algorithm).root)
    assert not findings(hierarchy(algorithm).issuing)


@pytest.mark.parametrize("ca_algorithm", CA_ALGORITHMS)
@pytest.mark.parametrize("algorithm", CA_ALGORITHMS)
@pytest.mark.parametrize("profile", PLATFORM_LEAVES, ids=lambda profile: profile.kind)
def test_pkilint_finds_nothing_in_a_leaf(
    profile: Profile, algorithm: KeyAlgorithm, ca_algorithm: KeyAlgorithm
) -> None:
    assert not findings(leaf(profile, algorithm, ca_algorithm))


def test_pkilint_accepts_the_default_public_url() -> None:
    on_loopback = Hierarchy(KeyAlgorithm.P256, "http://127.0.0.1:8080")
    certificate = sign(on_loopback.authority, ADMIN, LEAVES[ADMIN], key_of(KeyAlgorithm.P256))
    assert not findings(certificate)


# --- openssl -------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", CA_ALGORITHMS)
@pytest.mark.parametrize("profile", PLATFORM_LEAVES, ids=lambda profile: profile.kind)
def test_openssl_verifies_the_chain_for_its_purpose_only(
    profile: Profile, algorithm: KeyAlgorithm, tmp_path: Path
) -> None:
    chain = hierarchy(algorithm)
    for name_, certificate in {
        "root": chain.root,
        "issuing": chain.issuing,
        "leaf": leaf(profile, algorithm, algorithm),
    }.items():
        (tmp_path / name_).write_text(pem(certificate.der))

    def verifies(purpose: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose]
        command += ["-attime", str(int(NOW.timestamp()))]
        command += ["-CAfile", "root", "-untrusted", "issuing", "leaf"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        return done.returncode == 0

    right, wrong = "sslclient", "sslserver"
    if profile is GATEWAY:
        right, wrong = wrong, right
    assert verifies(right)
    assert not verifies(wrong)


# --- Contents ------------------------------------------------------------------------------------


def test_the_root_is_a_ca_that_points_nowhere() -> None:
    root = loaded(hierarchy().root)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, None)
    with pytest.raises(x509.ExtensionNotFound):
        root.extensions.get_extension_for_class(x509.CRLDistributionPoints)
    assert root.not_valid_after_utc - NOW > timedelta(days=20 * 365)


def test_the_issuing_ca_has_none_below_it() -> None:
    issuing = loaded(hierarchy().issuing)
    constraints = issuing.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    usage = issuing.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    assert issuing.not_valid_after_utc - NOW > timedelta(days=10 * 365)


@pytest.mark.parametrize("profile", PLATFORM_LEAVES, ids=lambda profile: profile.kind)
def test_a_leaf_points_to_its_issuer(profile: Profile) -> None:
    certificate = loaded(leaf(profile))
    extensions = certificate.extensions
    assert [found.oid for found in extensions] == [
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    (point,) = extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [uri.value for uri in point.full_name or ()] == [
        f"{PUBLIC_URL}/crl/example-issuing-ca-2"
    ]
    access = extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [description.access_location.value for description in access] == [
        f"{PUBLIC_URL}/ocsp/example-issuing-ca-2",
        f"{PUBLIC_URL}/ca/example-issuing-ca-2.crt",
    ]
    issuing = loaded(hierarchy().issuing).extensions
    assert (
        extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        == issuing.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )


@pytest.mark.parametrize(
    ("profile", "subject", "names", "usage"),
    [
        (
            INSTANCE,
            f"CN=instance:{INSTANCE_ID}",
            [f"URI:spiffe://certwire.internal/instance/{INSTANCE_ID}"],
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ),
        (
            AGENT,
            "CN=agent:edge-1",
            ["URI:spiffe://certwire.internal/agent/edge-1"],
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ),
        (
            ADMIN,
            "CN=admin",
            ["URI:spiffe://certwire.internal/admin"],
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ),
        (
            GATEWAY,
            "CN=gateway",
            ["DNS:gateway.example.com", "IP:127.0.0.1", "IP:::1"],
            ExtendedKeyUsageOID.SERVER_AUTH,
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Profile) else "",
)
def test_a_leaf_names_its_holder(
    profile: Profile, subject: str, names: list[str], usage: x509.ObjectIdentifier
) -> None:
    certificate = loaded(leaf(profile))
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert certificate.subject.rfc4514_string() == subject
    assert [identities.printed(found) for found in alternative] == names
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [usage]


def test_every_profile_has_its_own_kind() -> None:
    kinds = [profile.kind for profile in (ROOT_CA, ISSUING_CA, *PLATFORM_LEAVES)]
    assert len(set(kinds)) == len(kinds)
    assert CertificateKind.INSTANCE in kinds


# --- Validity ------------------------------------------------------------------------------------


def test_an_instance_certificate_is_valid_for_24_hours_less_a_second() -> None:
    certificate = leaf(INSTANCE)
    assert certificate.not_after - certificate.not_before == timedelta(hours=24, seconds=-1)
    assert timedelta(0) < NOW - certificate.not_before <= timedelta(seconds=60)


@pytest.mark.parametrize("profile", [ADMIN, AGENT], ids=lambda profile: profile.kind)
def test_admins_and_agents_have_two_years(profile: Profile) -> None:
    assert (leaf(profile).not_after - NOW).days == 730


def test_a_gateway_has_ninety_days() -> None:
    certificate = leaf(GATEWAY)
    assert certificate.not_after - certificate.not_before < timedelta(days=90)


def test_no_leaf_outlives_its_issuer() -> None:
    begins = datetime(2026, 11, 21, 11, 59, 50, tzinfo=UTC)
    ends = datetime(2026, 11, 21, 20, 0, 0, tzinfo=UTC)
    for profile in PLATFORM_LEAVES:
        assert profile.validity_at(NOW, begins, ends) == (begins, ends)


def test_dates_are_whole_seconds() -> None:
    for profile in PLATFORM_LEAVES:
        assert {
            moment.microsecond for moment in (leaf(profile).not_before, leaf(profile).not_after)
        } == {0}
