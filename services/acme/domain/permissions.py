"""Who may do what with projects and their certificates. What is not listed is refused.

API keys are asked for permissions, a superuser has every one of them here; the administrator has
no part in projects, and whoever has one has none in what is the administrator's.
"""

from collections.abc import Mapping
from typing import Any, Final

from contracts.acme import (
    CheckIssuance,
    CreateProject,
    DeleteProject,
    DownloadCertificate,
    GetOrder,
    GetPrivateKey,
    GetProject,
    GetPublicCertificate,
    GetRenewalSchedule,
    ListDomainCertificates,
    ListOrders,
    ListProjects,
    ObtainCertificate,
    RemoveCertificate,
    RemoveDomain,
    RenewDomain,
    RenewPublicCertificate,
    RevokePublicCertificate,
    SetDomain,
    UploadCertificate,
    ValidateCertificate,
)
from contracts.api_keys import Permission
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import Principal, PrincipalKind, Role

NOT_ENOUGH: Final = "Not enough permissions"

READ: Final = frozenset({Permission.PROJECTS_READ})
WRITE: Final = frozenset({Permission.PROJECTS_WRITE})
READ_KEYS: Final = frozenset({Permission.PROJECTS_READ, Permission.KEYS_READ})

NEEDS: Final[Mapping[type[Command[Any]], frozenset[Permission]]] = {
    ListProjects: READ,
    GetProject: READ,
    GetPublicCertificate: READ,
    DownloadCertificate: READ,
    ListOrders: READ,
    ValidateCertificate: READ,
    GetPrivateKey: READ_KEYS,
    CreateProject: WRITE,
    DeleteProject: WRITE,
    SetDomain: WRITE,
    RemoveDomain: WRITE,
    ObtainCertificate: WRITE,
    RenewPublicCertificate: WRITE,
    CheckIssuance: WRITE,  # it calls the domain's hosts, and the provider with its credentials
    GetOrder: WRITE,
    UploadCertificate: WRITE,
    RevokePublicCertificate: WRITE,
    RemoveCertificate: WRITE,
}
"""All of the permissions that a command about projects needs."""

OF_THE_ADMINISTRATOR: Final[frozenset[type[Command[Any]]]] = frozenset(
    {ListDomainCertificates, GetRenewalSchedule, RenewDomain, GetOrder}
)
"""What the administrator may; an order is looked after by whoever may have begun it."""


def authorise(actor: Principal, command: Command[Any]) -> None:
    """Raise `FORBIDDEN` unless the actor may send the command."""
    kind = type(command)
    if actor.kind is PrincipalKind.ADMIN:
        allowed = kind in OF_THE_ADMINISTRATOR
    elif actor.kind is PrincipalKind.USER:
        allowed = kind in NEEDS and actor.role is Role.SUPERUSER
    elif actor.kind is PrincipalKind.API_KEY:
        allowed = kind in NEEDS and NEEDS[kind].issubset(actor.capabilities)
    else:
        allowed = False
    if not allowed:
        raise CertwireError(ErrorCode.FORBIDDEN, NOT_ENOUGH, actor=actor)
