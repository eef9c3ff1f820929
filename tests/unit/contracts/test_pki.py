"""What may be asked of CAs and certificates is bounded in the messages themselves."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from contracts.certificates import CertificateKind
from contracts.messages import Command
from contracts.pki import (
    CA_PAGE,
    CaList,
    CaState,
    CaView,
    CreateCa,
    CrlBaseUrl,
    GetCa,
    KeyType,
    ListCas,
    NameConstraints,
    SignCsr,
)
from contracts.principal import Principal, PrincipalKind
from shared.clock import utc_now
from tests.support.running import call

ACTOR = Principal(kind=PrincipalKind.USER, id="1", name="u")
MAX_PAYLOAD = 8_000_000
"""Of NATS, as the platform sets it."""


@pytest.mark.parametrize(
    "url",
    ["http://a.b", "https://pki.example.com:8443/x/", "http://[::1]/", "http://192.0.2.1"],
)
def test_a_base_of_urls(url: str) -> None:
    assert TypeAdapter(CrlBaseUrl).validate_python(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pki.example.com",
        "ftp://a",
        "http://",
        "http:///x",
        "http://u@a",
        "http://u:p@a",
        "http://a?x",
        "http://a?",
        "http://a#",
        "http://a:0",
        "http://a:99999",
        "http://a:x",
        "http://a b",
        "http://a\n",
        "http://é",
        "http://[::1",
        "http://" + "a" * 1024,
    ],
)
def test_no_base_of_urls(url: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(CrlBaseUrl).validate_python(url)


@pytest.mark.parametrize(
    "constraints",
    [
        {"permitted_dns_names": [""]},
        {"permitted_dns_names": [".example.com"]},
        {"permitted_dns_names": ["*.example.com"]},
        {"permitted_dns_names": ["Example.com"]},
        {"permitted_dns_names": ["é.com"]},
        {"permitted_email_domains": ["alice@example.com"]},
        {"permitted_ip_ranges": ["10.0.0.1/8"]},
        {"permitted_ip_ranges": ["example.com"]},
        {"excluded_dns_names": ["example.com"] * 21},
        {"permitted_names": ["example.com"]},
    ],
)
def test_no_constraints(constraints: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NameConstraints.model_validate(constraints)


def test_constraints_survive_the_bus() -> None:
    constraints = NameConstraints.model_validate(
        {
            "permitted_dns_names": ["example.com", "localhost"],
            "excluded_ip_ranges": ["10.0.0.0/8", "2001:db8::/32"],
        }
    )
    assert NameConstraints.model_validate_json(constraints.model_dump_json()) == constraints


def test_the_largest_page_fits_into_a_message() -> None:
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    subtrees = {
        f"{kind}_{what}": (value,) * 20
        for kind in ("permitted", "excluded")
        for what, value in (
            ("dns_names", name),
            ("ip_ranges", "2001:db8:ffff:ffff:ffff:ffff:ffff:fff0/124"),
            ("email_domains", name),
        )
    }
    ca = CaView(
        id=2**63 - 1,
        slug="s" * 300,
        name="\U0001f600" * 255,
        description="\x01" * 4096,  # six bytes each in JSON
        subject_dn="\U0001f600" * 2048,
        key_type=KeyType.RSA,
        key_size=8192,
        valid_days=36_500,
        state=CaState.ACTIVE,
        certificate_pem="A" * 50_000,
        fingerprint="0" * 64,
        serial_hex="f" * 40,
        not_before=utc_now(),
        not_after=utc_now(),
        organization_id=2**63 - 1,
        created_by_user_id=2**63 - 1,
        parent_ca_id=2**63 - 1,
        path_length=16,
        allow_leaf_certs=True,
        crl_base_url="h" * 1024,
        is_root=False,
        name_constraints=NameConstraints.model_validate(subtrees),
        created_at=utc_now(),
        updated_at=utc_now(),
    )
    page = CaList(cas=(ca,) * CA_PAGE)
    assert len(page.model_dump_json().encode()) < MAX_PAYLOAD
    with pytest.raises(ValidationError):
        ListCas(call=call(), actor=ACTOR, limit=CA_PAGE + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": " a"},
        {"name": "a\tb"},
        {"description": "\x00"},
        {"path_length": -1},
        {"valid_days": 36_501},
        {"key_size": 10**9},
        {"parent_ca_id": 2**63},
    ],
)
def test_what_is_no_ca(changes: dict[str, Any]) -> None:
    good: dict[str, Any] = {"name": "Acme", "subject_dn": "CN=Acme"}
    CreateCa(call=call(), actor=ACTOR, **good)
    with pytest.raises(ValidationError):
        CreateCa(call=call(), actor=ACTOR, **{**good, **changes})


def test_a_refusal_is_recorded_with_what_it_was_about() -> None:
    commands: list[tuple[Command[Any], tuple[str, str]]] = [
        (GetCa(call=call(), actor=ACTOR, ca_id=5), ("ca", "5")),
        (CreateCa(call=call(), actor=ACTOR, name="Acme", subject_dn="CN=A"), ("ca", "Acme")),
        (
            SignCsr(
                call=call(),
                actor=ACTOR,
                csr_pem="",
                certificate_type=CertificateKind.SERVER,
                ca_name="Acme",
            ),
            ("ca", "Acme"),
        ),
    ]
    for command, about in commands:
        assert command.audit_object() == about
