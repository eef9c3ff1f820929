"""Who may do what: deny by default, and every command that changes something has a row."""

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.principal import ANONYMOUS, Principal, PrincipalKind
from contracts.registry import LogIn, ResetAdmin, ResolveCredentials
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


def test_every_command_but_those_of_other_services_is_listed() -> None:
    assert set(HANDLERS) - {ResolveCredentials, GetMembership} == set(ALLOWED)
