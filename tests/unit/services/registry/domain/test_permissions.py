"""Who may do what: deny by default, and every command that changes something has a row."""

from typing import Any

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import ANONYMOUS, Principal, PrincipalKind
from contracts.registry import LogIn, ResetAdmin, ResolveCredentials
from contracts.subjects import CLI
from contracts.users import GetMembership
from services.registry.app import HANDLERS
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


def test_every_command_but_those_of_other_services_and_of_the_keys_is_listed() -> None:
    """Of the keys' commands NATS lets the command line alone send any."""
    unlisted = {kind for kind in HANDLERS if kind.__module__ == "contracts.kek"}
    assert all(frozenset({CLI}) == kind.CALLERS for kind in unlisted)
    others: set[type[Command[Any]]] = {ResolveCredentials, GetMembership}
    assert set(HANDLERS) - unlisted - others == set(ALLOWED)
