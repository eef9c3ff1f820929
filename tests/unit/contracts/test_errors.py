"""Errors cross the bus whole, without what must not leave the service."""

import pytest

from contracts.errors import CertwireError, ErrorCode, ErrorReply
from contracts.principal import Principal, PrincipalKind


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_survives_the_bus(code: ErrorCode) -> None:
    error = CertwireError(code, "why", retry_after_seconds=3, parameters={"label": "x"})
    again = CertwireError.from_reply(
        ErrorReply.model_validate_json(error.reply().model_dump_json())
    )
    assert (again.code, again.detail) == (code, "why")
    assert (again.retry_after_seconds, again.parameters) == (3, {"label": "x"})


def test_who_was_refused_stays_in_the_service() -> None:
    actor = Principal(kind=PrincipalKind.AGENT, id="a", name="agent-name")
    error = CertwireError(ErrorCode.FORBIDDEN, actor=actor)
    assert "agent-name" not in error.reply().model_dump_json()
    assert error.actor is actor


def test_a_newer_service_may_say_more() -> None:
    reply = ErrorReply.model_validate_json('{"code": "gone", "hint": "added later"}')
    assert reply.code is ErrorCode.GONE
    assert reply.detail == ""


def test_it_reads_well_in_a_log() -> None:
    assert str(CertwireError(ErrorCode.CONFLICT, "the label is taken")) == (
        "conflict: the label is taken"
    )
    assert str(CertwireError(ErrorCode.CONFLICT)) == "conflict"
