"""Tests of contracts.users: what crosses the bus is well-formed, and tells no secret."""

from typing import Any

import pytest
from pydantic import ValidationError

from contracts.messages import Call
from contracts.principal import Credential, CredentialKind
from contracts.users import (
    CreateUser,
    EndSession,
    GetUser,
    ListUsers,
    RefreshSession,
    RemoveMember,
    UserChanges,
)

CALL = Call(request_id="r", deadline=0)
BEARER = Credential(kind=CredentialKind.BEARER, sha256="a" * 64)


def creation(**fields: Any) -> CreateUser:  # noqa: ANN401 - any field of the command
    given = {"username": "ann", "email": "ann@example.com", "password": "correct horse"}
    return CreateUser(**{"call": CALL, "credential": BEARER, **given, **fields})


def test_a_password_is_in_no_representation() -> None:
    assert "correct horse" not in repr(creation())
    assert "correct horse" not in repr(UserChanges(password="correct horse"))
    with pytest.raises(ValidationError) as refused:
        creation(password="hunter2", role="emperor")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025])
def test_a_password_has_8_to_1024_characters(password: str) -> None:
    with pytest.raises(ValidationError):
        creation(password=password)
    with pytest.raises(ValidationError):
        UserChanges(password=password)


@pytest.mark.parametrize("user_id", [0, -1, 2**63, "x"])
def test_an_id_is_what_the_database_can_hold(user_id: Any) -> None:  # noqa: ANN401 - what is tried
    with pytest.raises(ValidationError):
        GetUser(call=CALL, credential=BEARER, user_id=user_id)


@pytest.mark.parametrize(("skip", "limit"), [(-1, 1), (2**63, 1), (0, 0), (0, 1001)])
def test_a_page_has_bounds(skip: int, limit: int) -> None:
    with pytest.raises(ValidationError):
        ListUsers(call=CALL, credential=BEARER, skip=skip, limit=limit)


def test_refusals_name_what_they_are_about_but_no_token() -> None:
    assert GetUser(call=CALL, credential=BEARER, user_id=7).audit_object() == ("user", "7")
    assert GetUser(call=CALL, credential=BEARER, user_id=None).audit_object() == ("user", "")
    assert creation().audit_object() == ("user", "")
    removal = RemoveMember(call=CALL, credential=BEARER, organization_id=3, user_id=7)
    assert removal.audit_object() == ("organization", "3")
    assert RefreshSession(call=CALL, refresh_sha256="b" * 64).audit_object() == ("session", "")
    assert EndSession(call=CALL, credential=BEARER).audit_object() == ("session", "")
