"""Who may do what in the registry. What is not listed is refused."""

from collections.abc import Mapping
from typing import Any, Final

from contracts.agents import (
    AuthorizeAgent,
    CancelEnrollmentToken,
    CreateAgent,
    CreateEnrollmentToken,
    DownloadAdminBundle,
    DownloadAgentBundle,
    EnrollAgent,
    GetAuthMode,
    GetMtlsCertificates,
    GetOnboarding,
    GetOwnAgent,
    ListAgents,
    RenewAgent,
    RevokeAgent,
    RotateAdmin,
    SetAllowedSites,
    SetCapabilities,
    UpgradeAdmin,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import Principal, PrincipalKind
from contracts.registry import CompleteOnboarding, LogIn, ResetAdmin
from contracts.subjects import CLI
from contracts.users import RefreshSession
from services.registry.domain.users import MAY

OPERATOR: Final = Principal(kind=PrincipalKind.OPERATOR, id=CLI, name="operator")
"""Whoever works on the server: NATS lets only the user `cli` send what is the operator's."""

ANYBODY: Final = frozenset({PrincipalKind.ANONYMOUS})
OPERATOR_ONLY: Final = frozenset({PrincipalKind.OPERATOR})
ADMIN_ONLY: Final = frozenset({PrincipalKind.ADMIN})
AGENT_ONLY: Final = frozenset({PrincipalKind.AGENT})
ANY_CERTIFICATE: Final = ADMIN_ONLY | AGENT_ONLY
USER_ONLY: Final = frozenset({PrincipalKind.USER})

ALLOWED: Final[Mapping[type[Command[Any]], frozenset[PrincipalKind]]] = {
    LogIn: ANYBODY,
    RefreshSession: ANYBODY,  # who has the token
    EnrollAgent: ANYBODY,
    ResetAdmin: OPERATOR_ONLY,
    CompleteOnboarding: OPERATOR_ONLY,
    GetOnboarding: ANY_CERTIFICATE,
    GetMtlsCertificates: ADMIN_ONLY,
    GetAuthMode: ADMIN_ONLY,
    RotateAdmin: ADMIN_ONLY,
    DownloadAdminBundle: ADMIN_ONLY,
    UpgradeAdmin: ADMIN_ONLY,
    CreateAgent: ADMIN_ONLY,
    ListAgents: ADMIN_ONLY,
    DownloadAgentBundle: ADMIN_ONLY,
    SetCapabilities: ADMIN_ONLY,
    SetAllowedSites: ADMIN_ONLY,
    RevokeAgent: ADMIN_ONLY,
    CreateEnrollmentToken: ADMIN_ONLY,
    CancelEnrollmentToken: ADMIN_ONLY,
    GetOwnAgent: AGENT_ONLY,
    AuthorizeAgent: AGENT_ONLY,
    RenewAgent: AGENT_ONLY,
    **dict.fromkeys(MAY, USER_ONLY),  # and then by their standing
}


def authorise(principal: Principal, command: Command[Any]) -> None:
    """Raise `FORBIDDEN` unless the principal may send the command."""
    if principal.kind not in ALLOWED.get(type(command), frozenset()):
        raise CertwireError(ErrorCode.FORBIDDEN, actor=principal)
