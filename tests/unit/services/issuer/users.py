"""Users of the issuer, and what they ask for."""

from typing import Any

from contracts.pki import CreateCa, KeyType
from contracts.principal import Principal, PrincipalKind, Role
from tests.support.running import call

ORGANIZATION = 7
OTHER = 8


def user(
    user_id: int, *flags: str, role: Role = Role.USER, organization: int | None = ORGANIZATION
) -> Principal:
    """Return a user with capability flags."""
    return Principal(
        kind=PrincipalKind.USER,
        id=str(user_id),
        name=f"user-{user_id}",
        organization_id=organization,
        role=role,
        capabilities=flags,
    )


SUPERUSER = user(1, role=Role.SUPERUSER, organization=None)
ADMIN = user(2, role=Role.ADMIN)
MAKER = user(3, "create_ca")
MEMBER = user(4)
STRANGER = user(5, role=Role.ADMIN, organization=OTHER)
LONER = user(6, "create_ca", organization=None)


def new_ca(name: str = "Acme Root", actor: Principal = ADMIN, **others: Any) -> CreateCa:  # noqa: ANN401 - any field
    """Return the command that makes a CA; of P-256, for that is quick."""
    asked = {"subject_dn": f"CN={name},O=Acme,C=US", "key_type": KeyType.EC, **others}
    return CreateCa(call=call(), actor=actor, name=name, **asked)
