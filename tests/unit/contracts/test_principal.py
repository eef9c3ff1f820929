"""Credentials by hash, and principals without any right of their own."""

import pytest
from pydantic import ValidationError

from contracts.principal import (
    ANONYMOUS,
    Credential,
    CredentialKind,
    Principal,
    PrincipalKind,
    system,
)


@pytest.mark.parametrize("sha256", ["", "secret", "A" * 64, "0" * 64 + "\n"])
def test_a_credential_is_a_hash_and_never_the_secret(sha256: str) -> None:
    with pytest.raises(ValidationError):
        Credential(kind=CredentialKind.BEARER, sha256=sha256)


def test_a_new_principal_may_do_nothing() -> None:
    principal = Principal(kind=PrincipalKind.AGENT, id="a", name="a")
    assert principal.role is None
    assert principal.capabilities == principal.allowed_sites == ()


def test_anonymous_has_no_id() -> None:
    assert ANONYMOUS.id == ""
    assert ANONYMOUS.kind is PrincipalKind.ANONYMOUS


def test_a_service_acts_under_its_own_name() -> None:
    assert system("issuer").kind is PrincipalKind.SYSTEM
    assert system("issuer").id == "issuer"
