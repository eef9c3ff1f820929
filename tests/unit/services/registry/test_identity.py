"""Who may ask before there is anybody, and who is recorded as having asked."""

from typing import Any

import pytest

from contracts.agents import EnrollAgent, GetOnboarding
from contracts.errors import ErrorCode
from contracts.messages import Command
from contracts.principal import Credential, CredentialKind, PrincipalKind
from services.registry.app import HANDLERS
from services.registry.domain.permissions import ALLOWED
from tests.support.csr import csr_pem
from tests.support.outcomes import refused
from tests.support.registry import a_registry
from tests.support.running import call
from tests.support.servers import Place

FIELDS: dict[str, Any] = {
    "label": "mac",
    "limit": 1,
    "capability": "tunnels:read",
    "capabilities": ("tunnels:read",),
    "allowed_sites": (),
    "csr_pem": csr_pem(),
}
BY_CERTIFICATE = [
    command
    for command, kinds in ALLOWED.items()
    if kinds & {PrincipalKind.ADMIN, PrincipalKind.AGENT}
]


def filled(command: type[Command[Any]], credential: Credential | None) -> Command[Any]:
    """Return a command of the kind, with something in each field."""
    fields = {name: value for name, value in FIELDS.items() if name in command.model_fields}
    return command.model_validate({"call": call(), "credential": credential, **fields})


@pytest.mark.parametrize(
    "credential", [None, Credential(kind=CredentialKind.CERTIFICATE, sha256="0" * 64)]
)
async def test_before_init_everything_is_refused_for_that_alone(
    place: Place, credential: Credential | None
) -> None:
    async with a_registry(place) as registry:
        assert len(BY_CERTIFICATE) > 15
        for kind in BY_CERTIFICATE:
            with refused(ErrorCode.NOT_INITIALISED):
                await HANDLERS[kind](filled(kind, credential), registry)
        enrolment = EnrollAgent(call=call(), token="0" * 64, csr_pem="x" * 9000)
        with refused(ErrorCode.NOT_INITIALISED):
            await HANDLERS[EnrollAgent](enrolment, registry)
        with refused(ErrorCode.NOT_INITIALISED):
            await HANDLERS[GetOnboarding](GetOnboarding(call=call()), registry)
