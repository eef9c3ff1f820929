"""Tests of contracts.api_keys: what a key may do, and what is never said of it."""

import pytest
from pydantic import ValidationError

from contracts.api_keys import (
    ApiKey,
    CreateApiKey,
    CreatedApiKey,
    DeleteApiKey,
    KeyAccess,
    KeyPermissions,
    ProjectAccess,
)
from contracts.messages import Call
from contracts.principal import Credential, CredentialKind
from shared.clock import utc_now

CALL = Call(request_id="r", deadline=0)
BEARER = Credential(kind=CredentialKind.BEARER, sha256="a" * 64)


@pytest.mark.parametrize(
    ("projects", "keys", "capabilities"),
    [
        ("none", "none", ()),
        ("read", "none", ("projects:read",)),
        ("write", "none", ("projects:read", "projects:write")),
        ("none", "read", ("keys:read",)),
        ("read", "read", ("projects:read", "keys:read")),
        ("write", "read", ("projects:read", "projects:write", "keys:read")),
    ],
)
def test_who_may_write_may_read_and_keys_are_an_area_of_their_own(
    projects: str, keys: str, capabilities: tuple[str, ...]
) -> None:
    permissions = KeyPermissions(projects=ProjectAccess(projects), keys=KeyAccess(keys))
    assert permissions.capabilities() == capabilities


def test_keys_stay_closed_unless_they_are_asked_for() -> None:
    assert KeyPermissions(projects=ProjectAccess.WRITE).keys is KeyAccess.NONE


def test_a_secret_is_in_no_representation() -> None:
    permissions = KeyPermissions(projects=ProjectAccess.READ)
    key = ApiKey(id=1, name="n", permissions=permissions, created_at=utc_now())
    assert "cwk_x" not in repr(CreatedApiKey(api_key=key, secret="cwk_x"))


@pytest.mark.parametrize("name", ["", " n", "n\n", "n\x00", "\u202e", "x" * 256])
def test_a_name_is_one_printable_line(name: str) -> None:
    with pytest.raises(ValidationError):
        CreateApiKey(
            call=CALL,
            credential=BEARER,
            name=name,
            permissions=KeyPermissions(projects=ProjectAccess.READ),
        )


def test_a_refused_deletion_names_the_key() -> None:
    command = DeleteApiKey(call=CALL, credential=BEARER, api_key_id=7)
    assert command.audit_object() == ("api_key", "7")
