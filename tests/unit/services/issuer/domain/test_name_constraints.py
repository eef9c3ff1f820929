"""RFC 5280 section 4.2.1.10, rule by rule."""

from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import NameConstraints
from services.issuer.domain.distinguished_names import parse
from services.issuer.domain.name_constraints import below, extension, names_permitted

EXAMPLE = NameConstraints(
    permitted_dns_names=("example.com",),
    excluded_dns_names=("secret.example.com",),
    permitted_ip_ranges=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
    excluded_ip_ranges=(ip_network("10.9.0.0/16"),),
    permitted_email_domains=("example.com",),
)
NOBODY = parse("CN=nobody")


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def ip(address: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ip_address(address))]


def email(address: str) -> list[x509.GeneralName]:
    return [x509.RFC822Name(address)]


def permits(
    constraints: NameConstraints | None, names: list[x509.GeneralName], subject: str = "CN=nobody"
) -> bool:
    try:
        names_permitted([None, constraints], names, parse(subject))
    except CertwireError as refused:
        assert refused.code is ErrorCode.AGAINST_POLICY  # noqa: PT017 - the answer is either
        return False
    return True


@pytest.mark.parametrize(
    "names",
    [
        dns("example.com"),
        dns("a.b.example.com", "EXAMPLE.com"),
        dns("*.a.example.com"),
        ip("10.1.2.3"),
        ip("2001:db8::1"),
        email("alice@example.com"),
        email("alice@EXAMPLE.com"),
        [x509.UniformResourceIdentifier("https://anywhere.example.net/")],
        [],
    ],
)
def test_permits(names: list[x509.GeneralName]) -> None:
    assert permits(EXAMPLE, names)


@pytest.mark.parametrize(
    "names",
    [
        dns("example.org"),
        dns("notexample.com"),
        dns("example.com.evil.org"),
        dns("com"),
        dns("a.example.com", "example.org"),
        dns("secret.example.com"),
        dns("very.secret.example.com"),
        dns("*.secret.example.com"),
        dns("*.example.com"),  # it stands for secret.example.com too
        ip("10.9.1.1"),
        ip("11.0.0.1"),
        ip("2001:db9::1"),
        email("alice@example.org"),
        email("alice@mail.example.com"),  # a host is a host, not all below it
    ],
)
def test_does_not_permit(names: list[x509.GeneralName]) -> None:
    assert not permits(EXAMPLE, names)
    assert permits(None, names)


def test_a_type_that_nothing_is_said_of_is_free() -> None:
    constraints = NameConstraints(permitted_dns_names=("example.com",))
    assert permits(constraints, ip("192.0.2.1") + email("a@example.org"))
    assert permits(NameConstraints(excluded_dns_names=("a.com",)), dns("b.com"))


@pytest.mark.parametrize(
    ("subject", "names", "permitted"),
    [
        ("CN=www.example.org", [], False),  # verifiers take it for a DNS name
        ("CN=*.example.org", [], False),
        ("CN=www.example.org", dns("www.example.com"), True),  # not where there is a dNSName
        ("CN=www.example.com", [], True),
        ("CN=Alice of example.org", [], True),
        ("CN=192.0.2.1", [], True),
        ("CN=alice,emailAddress=alice@example.org", [], False),
        ("CN=alice,emailAddress=alice@example.com", dns("example.com"), True),
        ("CN=alice,emailAddress=..@..", [], False),
    ],
)
def test_the_subject_counts(
    subject: str, names: list[x509.GeneralName], *, permitted: bool
) -> None:
    assert permits(EXAMPLE, names, subject) == permitted


def test_every_ca_of_the_chain_has_to_permit() -> None:
    other = NameConstraints(permitted_dns_names=("a.example.com",))
    names_permitted([EXAMPLE, other], dns("x.a.example.com"), NOBODY)
    for chain in ([EXAMPLE, other], [other, EXAMPLE]):
        with pytest.raises(CertwireError, match=r"b\.example\.com"):
            names_permitted(chain, dns("b.example.com"), NOBODY)


def test_a_ca_below_inherits_what_it_says_nothing_of() -> None:
    own = NameConstraints(
        permitted_dns_names=("a.example.com", "example.com"),
        excluded_dns_names=("b.example.com", "secret.example.com"),
        permitted_ip_ranges=(ip_network("10.1.0.0/16"),),
    )
    assert below(EXAMPLE, own) == NameConstraints(
        permitted_dns_names=("a.example.com", "example.com"),
        excluded_dns_names=("secret.example.com", "b.example.com"),
        permitted_ip_ranges=(ip_network("10.1.0.0/16"),),
        excluded_ip_ranges=(ip_network("10.9.0.0/16"),),
        permitted_email_domains=("example.com",),
    )
    assert below(EXAMPLE, None) == EXAMPLE
    assert below(None, own) == own
    assert below(None, None) is None


@pytest.mark.parametrize(
    "own",
    [
        NameConstraints(permitted_dns_names=("example.org",)),
        NameConstraints(permitted_dns_names=("a.example.com", "com")),
        NameConstraints(permitted_ip_ranges=(ip_network("0.0.0.0/0"),)),
        NameConstraints(permitted_ip_ranges=(ip_network("::/0"),)),
        NameConstraints(permitted_email_domains=("mail.example.com",)),
    ],
)
def test_a_ca_below_may_only_narrow(own: NameConstraints) -> None:
    with pytest.raises(CertwireError) as refused:
        below(EXAMPLE, own)
    assert refused.value.code is ErrorCode.AGAINST_POLICY


def test_the_extension_says_the_same() -> None:
    found = extension(EXAMPLE)
    assert found is not None
    assert found.permitted_subtrees is not None
    assert len(found.permitted_subtrees) == 4
    assert found.excluded_subtrees == [
        x509.DNSName("secret.example.com"),
        x509.IPAddress(ip_network("10.9.0.0/16")),
    ]
    assert extension(None) is None
    assert extension(NameConstraints()) is None  # an empty one may not be (RFC 5280)
