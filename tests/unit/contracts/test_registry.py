"""Commands of the registry: bounds, and secrets that do not show."""

import pytest
from pydantic import ValidationError

from contracts.messages import Call
from contracts.registry import LogIn, ResetAdmin, ResolveCredentials, TokenPair
from contracts.subjects import CLI, Service

CALL = Call(request_id="r", deadline=0)


def test_only_the_server_itself_may_reset_the_admin() -> None:
    assert {CLI} == ResetAdmin.CALLERS
    assert Service.GATEWAY not in ResetAdmin.CALLERS


def test_asking_about_nobody_or_about_too_many_is_refused() -> None:
    question = {"credential": {"kind": "bearer", "sha256": "0" * 64}, "request_id": "r"}
    for count in (0, 501):
        with pytest.raises(ValidationError):
            ResolveCredentials.model_validate({"call": CALL, "questions": [question] * count})


def test_a_password_has_a_bound_and_does_not_show() -> None:
    login = LogIn(call=CALL, username="ann", password="hunter2")
    assert "hunter2" not in repr(login)
    assert login.audit_object() == ("user", "ann")
    with pytest.raises(ValidationError) as caught:
        LogIn(call=CALL, username="ann", password="hunter2" * 1000)
    assert "hunter2" not in str(caught.value)


def test_tokens_do_not_show() -> None:
    pair = TokenPair.model_validate(
        {
            "access_token": "hunter2",
            "refresh_token": "hunter3",
            "access_expires_at": "2026-11-21T12:00:00Z",
        }
    )
    assert "hunter" not in repr(pair)
