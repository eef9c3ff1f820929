"""Who may do what to instances: administrators only; everything else is refused."""

from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Principal, PrincipalKind, Role


def administers_instances(principal: Principal) -> bool:
    """Whether the principal is the administrator or a superuser."""
    return principal.kind is PrincipalKind.ADMIN or (
        principal.kind is PrincipalKind.USER and principal.role is Role.SUPERUSER
    )


def require_administrator(principal: Principal) -> None:
    """Raise `FORBIDDEN` for anybody else."""
    if not administers_instances(principal):
        raise CertwireError(
            ErrorCode.FORBIDDEN, "only an administrator may do this", actor=principal
        )
