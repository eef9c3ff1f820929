"""Tests of services.instance.domain.permissions."""

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Principal, PrincipalKind, Role
from services.instance.domain.permissions import require_administrator


def _principal(kind: PrincipalKind, role: Role | None = None) -> Principal:
    return Principal(kind=kind, id="1", name="n", role=role)


@pytest.mark.parametrize(
    "principal",
    [_principal(PrincipalKind.ADMIN), _principal(PrincipalKind.USER, Role.SUPERUSER)],
    ids=lambda p: f"{p.kind}-{p.role}",
)
def test_administrators_may(principal: Principal) -> None:
    require_administrator(principal)


@pytest.mark.parametrize(
    "principal",
    [
        *(_principal(kind) for kind in PrincipalKind if kind is not PrincipalKind.ADMIN),
        _principal(PrincipalKind.USER, Role.ADMIN),
        _principal(PrincipalKind.USER, Role.USER),
        _principal(PrincipalKind.AGENT, Role.SUPERUSER),
    ],
    ids=lambda p: f"{p.kind}-{p.role}",
)
def test_everybody_else_may_not(principal: Principal) -> None:
    with pytest.raises(CertwireError) as refused:
        require_administrator(principal)
    assert refused.value.code is ErrorCode.FORBIDDEN
    assert refused.value.actor == principal
