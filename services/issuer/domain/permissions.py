"""Who may do what with CAs and certificates of users. What no rule allows is refused.

The order is the ruling's, and `RULES` is it: the first rule that has an answer decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.pki import (
    CreateCa,
    CreateCertificate,
    DeleteCa,
    DeleteGrant,
    GetCa,
    GetCaChain,
    GetCaPrivateKey,
    GetCertificate,
    GetCertificateChain,
    GetCertificatePrivateKey,
    ListCaChildren,
    ListGrants,
    PutGrant,
    RetireCa,
    RevokeCertificate,
    RotateCa,
    SignCsr,
)
from contracts.principal import Principal, PrincipalKind, Role


class Action(StrEnum):
    """What is done, and what has to be allowed of the CA or certificate it is done to.

    The values of those that a capability allows are the capability's name.
    """

    READ = "read"
    CREATE_CA = "create_ca"
    """Make an intermediate below a CA, or a CA in its place."""
    CREATE_CERT = "create_cert"
    REVOKE_CERT = "revoke_cert"
    EXPORT_PRIVATE_KEY = "export_private_key"
    DELETE_CA = "delete_ca"
    """Delete it, or retire it."""
    MANAGE_GRANTS = "manage_grants"


ACTIONS: Final[Mapping[type[Command[Any]], Action]] = {
    CreateCa: Action.CREATE_CA,  # of the parent; of a root see `authorise_root`
    RotateCa: Action.CREATE_CA,
    GetCa: Action.READ,
    GetCaChain: Action.READ,
    ListCaChildren: Action.READ,
    GetCaPrivateKey: Action.EXPORT_PRIVATE_KEY,
    RetireCa: Action.DELETE_CA,
    DeleteCa: Action.DELETE_CA,
    ListGrants: Action.MANAGE_GRANTS,
    PutGrant: Action.MANAGE_GRANTS,
    DeleteGrant: Action.MANAGE_GRANTS,
    CreateCertificate: Action.CREATE_CERT,
    SignCsr: Action.CREATE_CERT,
    GetCertificate: Action.READ,
    GetCertificateChain: Action.READ,
    GetCertificatePrivateKey: Action.EXPORT_PRIVATE_KEY,
    RevokeCertificate: Action.REVOKE_CERT,
}
"""What each command has to be allowed. Lists are of what the actor may read."""


@dataclass(frozen=True, slots=True)
class Object:
    """A CA or a certificate, as far as permission goes."""

    organization_id: int | None
    created_by_user_id: int | None


@dataclass(frozen=True, slots=True)
class Question:
    """May the actor do this? `grants` are the actor's own on the CA in question."""

    actor: Principal
    action: Action
    of: Object
    grants: frozenset[str] = frozenset()


Rule = Callable[[Question], bool | None]
"""True: allowed. False: refused. None: the next rule decides."""


def only_users(question: Question) -> bool | None:
    return None if question.actor.kind is PrincipalKind.USER else False


def superuser(question: Question) -> bool | None:
    return True if question.actor.role is Role.SUPERUSER else None


def creator(question: Question) -> bool | None:
    mine = question.of.created_by_user_id
    return True if mine is not None and str(mine) == question.actor.id else None


def unowned_is_superusers_alone(question: Question) -> bool | None:
    return False if question.of.organization_id is None else None


def other_organization(question: Question) -> bool | None:
    return None if question.actor.organization_id == question.of.organization_id else False


def admin(question: Question) -> bool | None:
    return True if question.actor.role is Role.ADMIN else None


def read_within_the_organization(question: Question) -> bool | None:
    return True if question.action is Action.READ else None


def capability(question: Question) -> bool | None:
    held = question.grants.union(question.actor.capabilities)
    return True if question.action in held else None


RULES: Final[tuple[Rule, ...]] = (
    only_users,
    superuser,
    creator,
    unowned_is_superusers_alone,
    other_organization,
    admin,
    read_within_the_organization,
    capability,
)


def allowed(question: Question) -> bool:
    """Return the answer of the first rule that has one; without any, it is no."""
    return next((answer for rule in RULES if (answer := rule(question)) is not None), False)


def authorise(
    actor: Principal, action: Action, of: Object, grants: frozenset[str] = frozenset()
) -> None:
    """Raise `FORBIDDEN` unless the actor may."""
    if not allowed(Question(actor, action, of, grants)):
        raise _refused(actor)


def user_id(actor: Principal) -> int:
    """Return the registry's id of a user. Raises `FORBIDDEN` for who is none."""
    if actor.kind is not PrincipalKind.USER:
        raise _refused(actor)
    return int(actor.id)


def authorise_root(actor: Principal) -> None:
    """Raise `FORBIDDEN` unless the actor may make a CA below none, in the own organisation."""
    may = actor.kind is PrincipalKind.USER and (
        actor.role in {Role.SUPERUSER, Role.ADMIN} or Action.CREATE_CA in actor.capabilities
    )
    if not may:
        raise _refused(actor)


def _refused(actor: Principal) -> CertwireError:
    return CertwireError(ErrorCode.FORBIDDEN, "Not enough permissions", actor=actor)
