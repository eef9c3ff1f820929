"""Who may do what in the registry. What is not listed is refused."""

from collections.abc import Mapping
from typing import Any, Final

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import Principal, PrincipalKind
from contracts.registry import CompleteOnboarding, LogIn, ResetAdmin
from contracts.subjects import CLI

OPERATOR: Final = Principal(kind=PrincipalKind.OPERATOR, id=CLI, name="operator")
"""Whoever works on the server: NATS lets only the user `cli` send what is the operator's."""

ALLOWED: Final[Mapping[type[Command[Any]], frozenset[PrincipalKind]]] = {
    LogIn: frozenset({PrincipalKind.ANONYMOUS}),
    ResetAdmin: frozenset({PrincipalKind.OPERATOR}),
    CompleteOnboarding: frozenset({PrincipalKind.OPERATOR}),
}


def authorise(principal: Principal, command: Command[Any]) -> None:
    """Raise `FORBIDDEN` unless the principal may send the command."""
    if principal.kind not in ALLOWED.get(type(command), frozenset()):
        raise CertwireError(ErrorCode.FORBIDDEN, actor=principal)
