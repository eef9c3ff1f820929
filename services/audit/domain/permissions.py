"""Who may read the log. What no rule allows is refused."""

from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Principal, PrincipalKind, Role


def readable_organization(actor: Principal) -> int | None:
    """Return the organisation whose records the actor may read; None is every record.

    Raises `FORBIDDEN`.
    """
    if actor.kind is PrincipalKind.USER and actor.role is Role.SUPERUSER:
        return None
    if actor.kind is PrincipalKind.USER and actor.role is Role.ADMIN and actor.organization_id:
        return actor.organization_id
    raise CertwireError(ErrorCode.FORBIDDEN, "Insufficient permissions", actor=actor)
