"""Who may do what: deny by default, and every command that changes something has a row."""

import pytest

from contracts import registry
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import ANONYMOUS, Principal, PrincipalKind
from contracts.registry import LogIn, ResetAdmin, ResolveCredentials
from services.registry.domain.permissions import ALLOWED, OPERATOR, authorise
from tests.support.running import call


def a(kind: PrincipalKind) -> Principal:
    return Principal(kind=kind, id="x", name="x")


@pytest.mark.parametrize("kind", [k for k in PrincipalKind if k is not PrincipalKind.OPERATOR])
def test_only_the_operator_resets_the_administrator(kind: PrincipalKind) -> None:
    with pytest.raises(CertwireError) as refused:
        authorise(a(kind), ResetAdmin(call=call()))
    assert refused.value.code is ErrorCode.FORBIDDEN
    assert refused.value.actor == a(kind)
    authorise(OPERATOR, ResetAdmin(call=call()))


def test_anybody_may_try_to_log_in() -> None:
    authorise(ANONYMOUS, LogIn(call=call(), username="u", password="p"))


def test_every_command_that_changes_something_is_listed() -> None:
    commands = [
        member
        for member in vars(registry).values()
        if isinstance(member, type) and issubclass(member, Command) and hasattr(member, "SUBJECT")
    ]
    assert ResolveCredentials in commands
    changing = {command for command in commands if command.ACTION is not None}
    assert changing == set(ALLOWED)
