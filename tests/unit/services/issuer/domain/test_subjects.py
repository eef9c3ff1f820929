"""Whom a user's certificate names, by what the user and the CSR say."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.pki import SubjectNames
from services.issuer.domain.distinguished_names import printed
from services.issuer.domain.subjects import Subject, of_csr, of_request
from tests.support.csr import new_key

SERVER, CLIENT = CertificateKind.SERVER, CertificateKind.CLIENT
KEY = new_key()
REFUSALS = {ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_CSR, ErrorCode.AGAINST_POLICY}


def csr(
    subject: list[x509.NameAttribute[str]], *extensions: x509.ExtensionType
) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, SHA256())


def attribute(value: str, oid: x509.ObjectIdentifier = NameOID.COMMON_NAME, **others: Any) -> Any:  # noqa: ANN401 - cryptography's generic
    return x509.NameAttribute(oid, value, **others)


def names(*dns: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(name) for name in dns])


def said(subject: Subject) -> tuple[str, str, list[str]]:
    return subject.common_name, printed(subject.name), [str(name.value) for name in subject.names]


def refused(code: ErrorCode, match: str) -> Any:  # noqa: ANN401 - pytest's own
    return pytest.raises(CertwireError, match=f"{code}.*{match}")


def code_or_subject(ask: Callable[[], Subject]) -> Subject | ErrorCode:
    try:
        return ask()
    except CertwireError as error:
        return error.code


def test_a_request_says_it_all() -> None:
    asked = SubjectNames(common_name="api.example.com", subject_dn="CN=api.example.com,O=Acme,C=US")
    assert said(of_request(SERVER, asked)) == (
        "api.example.com",
        "CN=api.example.com,O=Acme,C=US",
        ["api.example.com"],
    )
    without = SubjectNames(common_name="api.example.com", subject_dn="O=Acme,C=US")
    assert said(of_request(SERVER, without))[1] == "CN=api.example.com,O=Acme,C=US"
    with refused(ErrorCode.AGAINST_POLICY, "common_name"):
        other = SubjectNames(common_name="b.example.com", subject_dn="CN=api.example.com")
        of_request(SERVER, other)


def test_a_csr_is_asked_where_nothing_is_said() -> None:
    request = csr(
        [attribute("a.example.com"), attribute("Acme", NameOID.ORGANIZATION_NAME)],
        names("b.example.com"),
    )
    assert said(of_csr(SERVER, SubjectNames(), request)) == (
        "a.example.com",
        "O=Acme,CN=a.example.com",
        ["b.example.com"],
    )
    asked = SubjectNames(common_name="c.example.com", san_dns_names=())
    assert said(of_csr(SERVER, asked, request)) == (
        "c.example.com",
        "CN=c.example.com,O=Acme",
        ["c.example.com"],
    )
    asked = SubjectNames(subject_dn="CN=d.example.com", san_ip_addresses=("10.0.0.1",))
    assert said(of_csr(SERVER, asked, request)) == (
        "d.example.com",
        "CN=d.example.com",
        ["b.example.com", "10.0.0.1"],
    )


def test_without_a_common_name_the_first_name_is_one() -> None:
    subject = of_csr(SERVER, SubjectNames(), csr([], names("a.example.com", "b.example.com")))
    assert said(subject) == (
        "a.example.com",
        "CN=a.example.com",
        ["a.example.com", "b.example.com"],
    )
    with refused(ErrorCode.AGAINST_POLICY, "common name is needed"):
        of_csr(CLIENT, SubjectNames(), csr([]))


def test_strings_of_old_types_become_utf8() -> None:
    request = csr([attribute("Café", _type=x509.name._ASN1Type.BMPString)])
    subject = of_csr(CLIENT, SubjectNames(), request)
    assert subject.name.public_bytes() == x509.Name([attribute("Café")]).public_bytes()


@pytest.mark.parametrize(
    "subject",
    [
        [attribute("a\x00b")],
        [attribute("a\nb")],
        [attribute("a"), attribute("b")],
        [attribute("x" * 65, NameOID.ORGANIZATION_NAME)],
        [attribute("a", NameOID.DN_QUALIFIER)],
    ],
    ids=str,
)
def test_a_subject_that_no_certificate_should_have(subject: Any) -> None:  # noqa: ANN401 - as above
    with refused(ErrorCode.INVALID_CSR, ""):
        of_csr(CLIENT, SubjectNames(), csr(subject))


def test_kinds_of_names_that_no_certificate_has() -> None:
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("https://example.com")])
    with refused(ErrorCode.INVALID_CSR, "other names"):
        of_csr(CLIENT, SubjectNames(), csr([attribute("a")], uri))
    with refused(ErrorCode.AGAINST_POLICY, "DNS"):
        of_csr(CLIENT, SubjectNames(), csr([attribute("a")], names("a.example.com")))


@given(
    kind=st.sampled_from([SERVER, CLIENT, CertificateKind.DUAL_PURPOSE, CertificateKind.CA]),
    common_name=st.none() | st.text(max_size=70),
    subject_dn=st.none() | st.text(max_size=70) | st.just("CN=a,O=b"),
    texts=st.lists(st.text(max_size=30) | st.just("a.example.com"), max_size=3),
)
def test_anything_is_a_subject_or_refused(
    kind: CertificateKind, common_name: str | None, subject_dn: str | None, texts: list[str]
) -> None:
    asked = SubjectNames(common_name=common_name, subject_dn=subject_dn, san_dns_names=tuple(texts))
    for ask in (
        lambda: of_request(kind, asked),
        lambda: of_csr(kind, asked, csr([attribute("a.example.com")])),
    ):
        outcome = code_or_subject(ask)
        if isinstance(outcome, Subject):
            assert outcome.name.public_bytes()
            assert outcome.common_name
        else:
            assert outcome in REFUSALS
