"""Users of the issuer, and what they ask for."""

from typing import Any

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.pki import CaView, CreateCa, KeyType
from contracts.principal import Principal, PrincipalKind, Role
from services.issuer.app import HANDLERS
from services.issuer.service import Issuer
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
UNATTACHED = user(6, "create_ca", organization=None)


def new_ca(name: str = "Acme Root", actor: Principal = ADMIN, **others: Any) -> CreateCa:  # noqa: ANN401 - any field
    """Return the command that makes a CA; of P-256, for that is quick."""
    asked = {"subject_dn": f"CN={name},O=Acme,C=US", "key_type": KeyType.EC, **others}
    return CreateCa(call=call(), actor=actor, name=name, **asked)


async def ask(issuer: Issuer, command: Any) -> Any:  # noqa: ANN401 - any command
    """Let the issuer handle a command."""
    return await HANDLERS[type(command)](command, issuer)


async def refusal(issuer: Issuer, command: Any) -> ErrorCode:  # noqa: ANN401 - any command
    """Return why a command is refused."""
    with pytest.raises(CertwireError) as refused:
        await ask(issuer, command)
    assert refused.value.detail
    return refused.value.code


async def made(issuer: Issuer, name: str = "Acme Root", **others: Any) -> CaView:  # noqa: ANN401 - any field
    """Make a CA."""
    ca: CaView = (await ask(issuer, new_ca(name, **others))).ca
    return ca


def about(kind: Any, ca: CaView | int, actor: Principal = ADMIN, **others: Any) -> Any:  # noqa: ANN401 - any command
    """Return a command about a CA."""
    return kind(call=call(), actor=actor, ca_id=ca if isinstance(ca, int) else ca.id, **others)
