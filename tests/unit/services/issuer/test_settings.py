"""What the issuer accepts as settings."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from services.issuer.domain.profiles import AGENT, INSTANCE
from services.issuer.keys import KeyAlgorithm
from services.issuer.settings import IssuerSettings


def test_the_gateway_is_known_by_its_names_and_the_public_host() -> None:
    settings = IssuerSettings(
        public_url="http://pki.example.com:8080", gateway_names="A.example, ::1,"
    )
    assert settings.gateway_hosts == ("a.example", "::1", "pki.example.com")
    assert "127.0.0.1" in IssuerSettings().gateway_hosts


@pytest.mark.parametrize(
    "wrong",
    [
        {"public_url": "pki.example.com"},
        {"public_url": "http://pki.example.com/path"},
        {"public_url": "ldap://pki.example.com"},
        {"gateway_names": "a b"},
        {"gateway_names": "localhost;rm"},
        {"trust_domain": "Certwire"},
        {"trust_domain": "a/b"},
        {"platform_name": ""},
        {"platform_name": "x" * 49},
        {"platform_name": "a\nb"},
        {"ca_key_algorithm": "dsa"},
    ],
)
def test_refuses_what_could_not_stand_in_a_certificate(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        IssuerSettings(**wrong)  # type: ignore[arg-type]  # what an environment may hold


def test_the_key_encryption_key_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTWIRE_KEK", "a secret")
    settings = IssuerSettings()
    assert settings.key_encryption_keys() == "a secret"
    assert "a secret" not in f"{settings!r} {settings}"


def test_an_instances_certificate_lives_for_a_day_or_less() -> None:
    assert IssuerSettings().instance_profile == INSTANCE
    short = IssuerSettings(issuer_instance_lifetime_seconds=60).instance_profile
    assert short.validity == timedelta(seconds=60)
    for seconds in (59, 86_401):
        with pytest.raises(ValidationError):
            IssuerSettings(issuer_instance_lifetime_seconds=seconds)


def test_an_agents_certificate_lives_for_two_years_or_less() -> None:
    assert IssuerSettings().agent_profile == AGENT
    short = IssuerSettings(issuer_agent_lifetime_seconds=60).agent_profile
    assert short.validity == timedelta(seconds=60)
    for seconds in (59, 731 * 86_400 + 1):
        with pytest.raises(ValidationError):
            IssuerSettings(issuer_agent_lifetime_seconds=seconds)


def test_the_cas_algorithm_is_read_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTWIRE_CA_KEY_ALGORITHM", "rsa3072")
    assert IssuerSettings().ca_key_algorithm == KeyAlgorithm.RSA3072


def test_a_size_of_the_pool_that_is_zero_turns_it_off() -> None:
    settings = IssuerSettings(issuer_key_pool_rsa2048=0, issuer_key_pool_rsa4096=2)
    assert settings.key_pool == {KeyAlgorithm.RSA2048: 0, KeyAlgorithm.RSA4096: 2}
    assert settings.issuer_key_workers >= 1
