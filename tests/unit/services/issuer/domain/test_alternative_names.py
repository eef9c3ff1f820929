"""Which names a certificate of each kind gets, and what is no name."""

import ipaddress

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.pki import MOST_NAMES
from services.issuer.domain.alternative_names import (
    AlternativeNames,
    dns_name,
    email_address,
    ip_address,
    names_of,
)

SERVER, CLIENT = CertificateKind.SERVER, CertificateKind.CLIENT
DUAL, CA = CertificateKind.DUAL_PURPOSE, CertificateKind.CA


def texts(
    kind: CertificateKind,
    common_name: str,
    dns: tuple[str, ...] = (),
    ip: tuple[str, ...] = (),
    email: tuple[str, ...] = (),
) -> list[str]:
    names = names_of(kind, AlternativeNames.parse(dns, ip, email), common_name)
    return [str(name.value) for name in names]


@pytest.mark.parametrize("kind", [SERVER, DUAL])
def test_the_common_name_of_a_server_is_a_name(kind: CertificateKind) -> None:
    assert texts(kind, "API.example.com") == ["api.example.com"]
    assert texts(kind, "*.example.com") == ["*.example.com"]
    assert texts(kind, "localhost") == ["localhost"]
    assert texts(kind, "api.example.com", ip=("10.0.0.42",)) == ["api.example.com", "10.0.0.42"]
    assert texts(kind, "10.0.0.42") == ["10.0.0.42"]
    assert texts(kind, "2001:DB8::1") == ["2001:db8::1"]


@pytest.mark.parametrize("kind", [SERVER, DUAL])
def test_given_names_stand_for_themselves(kind: CertificateKind) -> None:
    assert texts(kind, "api.example.com", dns=("b.example.com", "B.example.com")) == [
        "b.example.com"
    ]
    assert texts(kind, "Our API", dns=("b.example.com",)) == ["b.example.com"]
    assert texts(kind, "10.0.0.42", ip=("10.0.0.43",)) == ["10.0.0.43"]


def test_a_server_needs_a_name() -> None:
    for kind in (SERVER, DUAL):
        with pytest.raises(CertwireError, match="are needed") as refused:
            texts(kind, "Our API")
        assert refused.value.code is ErrorCode.AGAINST_POLICY


def test_the_common_name_of_a_client_may_be_a_mail_address() -> None:
    assert texts(CLIENT, "alice") == []
    assert texts(CLIENT, "alice@Example.com") == ["alice@example.com"]
    assert texts(CLIENT, "alice@example.com", email=("bob@example.com",)) == ["bob@example.com"]
    assert texts(CLIENT, "api.example.com") == []
    assert texts(CA, "api.example.com") == []


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (SERVER, {"email": ("a@example.com",)}),
        (CLIENT, {"dns": ("a.example.com",)}),
        (CLIENT, {"ip": ("10.0.0.1",)}),
        (CA, {"dns": ("a.example.com",)}),
        (CA, {"email": ("a@example.com",)}),
    ],
)
def test_names_that_a_kind_does_not_have_are_refused(
    kind: CertificateKind, names: dict[str, tuple[str, ...]]
) -> None:
    with pytest.raises(CertwireError, match=f"A {kind} certificate has no") as refused:
        texts(kind, "a.example.com", **names)
    assert refused.value.code is ErrorCode.AGAINST_POLICY


def test_there_are_not_too_many() -> None:
    dns = tuple(f"{number}.example.com" for number in range(MOST_NAMES))
    assert len(texts(SERVER, "a", dns)) == MOST_NAMES
    with pytest.raises(CertwireError, match="at most"):
        texts(SERVER, "a", dns, ip=("10.0.0.1",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "example.com.",
        "-a.example.com",
        "a..example.com",
        "a_b.example.com",
        "a.*.example.com",
        "*a.example.com",
        "bücher.example",
        "a b",
        "a\x00b",
        "10.0.0.1",
        "1.2.3",
        "::1",
        "x" * 64,
        ".".join(["x" * 50] * 6),
    ],
)
def test_no_dns_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"name|ASCII"):
        dns_name(text)


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.256", "010.0.0.1", "fe80::1%eth0", "::g"])
def test_no_ip_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"IP address|one machine"):
        ip_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@example.com",
        "a@",
        "a@b@example.com",
        "a@*.example.com",
        "a b@example.com",
        ".a@example.com",
        "é@example.com",
        "a@-x.com",
        "a\n@example.com",
        "x" * 65 + "@example.com",
    ],
)
def test_no_mail_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"mail address|ASCII"):
        email_address(text)


def test_the_names_of_a_csr_are_checked_too() -> None:
    def copied(*names: x509.GeneralName) -> AlternativeNames:
        return AlternativeNames.copied(x509.SubjectAlternativeName(names))

    address = x509.IPAddress(ipaddress.ip_address("10.0.0.1"))
    mail = x509.RFC822Name("a@example.com")
    found = copied(x509.DNSName("A.example.com"), address, mail)
    assert found == AlternativeNames((x509.DNSName("a.example.com"),), (address,), (mail,))
    for name in (
        x509.UniformResourceIdentifier("spiffe://example.com/a"),
        x509.DirectoryName(x509.Name([])),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.DNSName("a b"),
        x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")),
    ):
        with pytest.raises(ValueError, match=r"other names|no DNS name|no IP address"):
            copied(name)


@given(st.text(max_size=80), st.sampled_from([dns_name, ip_address, email_address]))
def test_any_text_is_a_name_or_refused(text: str, parse: type) -> None:
    try:
        name = parse(text)
    except ValueError:
        return
    assert x509.SubjectAlternativeName([name]).public_bytes()
    assert parse(str(name.value)) == name
