import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import CertwireError, ErrorCode
from services.issuer.domain.distinguished_names import common_name, parse, printed, same


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("CN=api.example.com,O=Acme Corp,C=US", None),
        ("CN=api, O=Acme Corp , C=US", "CN=api,O=Acme Corp,C=US"),  # as people write it
        ("CN=Smith\\, John,O=Acme", None),
        ("O=x\\2C y,CN=a", "O=x\\, y,CN=a"),
        ("CN=a + O=b", "CN=a+O=b"),
        ("2.5.4.3=abc", "CN=abc"),
        ("CN=é,O=日本", None),
        ("E=a@example.com,CN=x", "emailAddress=a@example.com,CN=x"),
        ("SERIALNUMBER=1,S=NY,DC=example,UID=u,CN=x", "serialNumber=1,ST=NY,DC=example,UID=u,CN=x"),
    ],
)
def test_reads_what_people_write(text: str, canonical: str | None) -> None:
    name = parse(text)
    assert printed(name) == (canonical or text)
    assert parse(printed(name)) == name


def test_the_last_part_comes_first_in_the_certificate() -> None:
    name = parse("CN=api,O=Acme,C=US")
    assert [part.oid for part in name] == [
        NameOID.COUNTRY_NAME,
        NameOID.ORGANIZATION_NAME,
        NameOID.COMMON_NAME,
    ]
    assert common_name(name) == "api"
    assert common_name(parse("O=Acme")) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "CN",
        "CN=",
        "CN=x,",
        "CN=x\\",
        "CN=\\ff",
        "CN=\\00x",
        "CN=a\nb",
        "CN=a\x00b",
        "CN=a\u202eb",  # written from right to left
        "CN=\ud800",
        "CN=\\ x",
        "CN=a,CN=b",
        "CN=" + "x" * 65,
        "O=" + "x" * 65 + ",CN=x",
        "L=" + "x" * 129 + ",CN=x",
        "C=USA,CN=x",
        "C=U1,CN=x",
        "DC=é,CN=x",
        "serialNumber=*,CN=x",
        "emailAddress=nobody,CN=x",
        "FOO=bar",
        "1.2.3=a",
        "99999999999999999999.1=a",
    ],
)
def test_refuses_what_no_certificate_should_hold(text: str) -> None:
    with pytest.raises(CertwireError) as refused:
        parse(text)
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    assert refused.value.detail.startswith("the distinguished name: ")


@given(st.text(max_size=100))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = parse(text)
    except CertwireError:
        return
    assert parse(printed(name)) == name
    assert len(name.public_bytes()) > 2


def test_case_and_spaces_make_no_other_name() -> None:
    assert same(parse("CN=Acme  Root,O=ACME"), parse("CN=acme root,O=Acme"))
    assert same(parse("CN=a+O=b"), parse("O=b+CN=a"))
    assert not same(parse("CN=a,O=b"), parse("O=b,CN=a"))
    assert not same(parse("CN=a"), x509.Name([]))
