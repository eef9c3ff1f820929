"""What the acme service's commands take."""

import pytest
from pydantic import TypeAdapter, ValidationError

from contracts.acme import ChallengeType, DnsAccess, Domain, Email, Issuance, SetDomain, Token
from contracts.dns import DnsProviderName
from tests.support.running import call

DOMAIN = TypeAdapter(Domain)
ACCESS = DnsAccess(provider=DnsProviderName.CLOUDFLARE, credentials={"apiToken": "secret-token"})


@pytest.mark.parametrize(
    "name", ["example.com", "*.example.com", "a.b.c.example.com", "xn--bcher-kva.example", "1.de"]
)
def test_takes_names_that_a_certificate_can_be_for(name: str) -> None:
    assert DOMAIN.validate_python(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "Example.com",
        "10.0.0.1",
        "example.com.",
        "*",
        "a.*.example.com",
        "-a.example.com",
        "a_b.example.com",
        "example..com",
        "example.com\n",
        "../example.com",
        "bücher.example",
        "a" * 64 + ".example.com",
        ".".join(["a" * 60] * 5),
    ],
)
def test_refuses_what_is_no_public_name(name: str) -> None:
    with pytest.raises(ValidationError):
        DOMAIN.validate_python(name)


@pytest.mark.parametrize(
    "email", ["a@b", "a@b.c?cc=d@e.f", "a@b.c,d@e.f", "a b@example.com", "@example.com", "a\n@b.c"]
)
def test_refuses_a_contact_that_is_more_than_an_address(email: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Email).validate_python(email)


@pytest.mark.parametrize("token", ["short", "a" * 129, "../" * 10, "a" * 20 + "/", "a" * 20 + "\n"])
def test_refuses_a_token_that_is_none(token: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Token).validate_python(token)


def test_dns_01_goes_with_a_provider_and_http_01_with_none() -> None:
    fields = {"email": "a@example.com"}
    Issuance(**fields, challenge_type=ChallengeType.DNS_01, dns=ACCESS)
    Issuance(**fields, challenge_type=ChallengeType.HTTP_01)
    with pytest.raises(ValidationError):
        Issuance(**fields, challenge_type=ChallengeType.DNS_01)
    with pytest.raises(ValidationError):
        Issuance(**fields, challenge_type=ChallengeType.HTTP_01, dns=ACCESS)


def test_credentials_are_those_of_their_provider() -> None:
    with pytest.raises(ValidationError) as refused:
        DnsAccess(provider=DnsProviderName.AWS, credentials={"apiToken": "secret-token"})
    assert "secret-token" not in str(refused.value)


def test_secrets_are_not_shown() -> None:
    issuance = Issuance(email="a@example.com", challenge_type=ChallengeType.DNS_01, dns=ACCESS)
    assert "secret-token" not in repr(issuance)
    assert Issuance.model_validate_json(issuance.model_dump_json()) == issuance


@pytest.mark.parametrize("project_id", ["", "-a", "a-", "A", "a/b", "a" * 65, "a b"])
def test_refuses_an_id_that_is_no_slug(project_id: str) -> None:
    with pytest.raises(ValidationError):
        SetDomain.model_validate(
            {
                "call": call(),
                "actor": {"kind": "user", "id": "1", "name": "root"},
                "project_id": project_id,
                "domain": "example.com",
            }
        )
