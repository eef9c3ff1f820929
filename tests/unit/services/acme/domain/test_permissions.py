"""Who may do what, beside a second telling of the rulings: everybody tries every command."""

import itertools
from typing import Any

import pytest

from contracts import acme
from contracts.acme import GetHttpChallenge, HttpChallenge, ProjectCommand
from contracts.api_keys import KeyAccess, KeyPermissions, ProjectAccess
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import Principal, PrincipalKind, Role
from services.acme.domain.permissions import NEEDS, OF_THE_ADMINISTRATOR, authorise
from tests.support.running import call

ADMIN = Principal(kind=PrincipalKind.ADMIN, id="admin", name="admin")
SUPERUSER = Principal(kind=PrincipalKind.USER, id="1", name="root", role=Role.SUPERUSER)
NOBODY_ELSES = {"RenewDomain", "GetRenewalSchedule", "ListDomainCertificates"}
READING = {
    "ListProjects",
    "GetProject",
    "GetPublicCertificate",
    "DownloadCertificate",
    "ListOrders",
    "ValidateCertificate",
}
COMMANDS = [
    kind
    for kind in vars(acme).values()
    if isinstance(kind, type)
    and issubclass(kind, Command)
    and kind.__module__ == acme.__name__
    and hasattr(kind, "SUBJECT")
]


def sent(kind: type[Command[Any]]) -> Command[Any]:
    """Return a command as far as permissions look at it: its kind."""
    return kind.model_construct(call=call())


def api_key(projects: ProjectAccess, keys: KeyAccess = KeyAccess.NONE) -> Principal:
    permissions = KeyPermissions(projects=projects, keys=keys)
    return Principal(
        kind=PrincipalKind.API_KEY, id="5", name="ci", capabilities=permissions.capabilities()
    )


def may(actor: Principal, kind: type[Command[Any]]) -> bool:
    try:
        authorise(actor, sent(kind))
    except CertwireError as refused:
        return (refused.code, refused.actor) != (ErrorCode.FORBIDDEN, actor)
    return True


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_keys_may_what_the_rulings_say(kind: type[Command[Any]]) -> None:
    """`validate` and the reads need read, the private key keys:read too, the rest write."""
    for projects, keys in itertools.product(ProjectAccess, KeyAccess):
        if kind.__name__ in NOBODY_ELSES or kind is GetHttpChallenge:
            expected = False
        elif kind is acme.GetPrivateKey:
            expected = projects is not ProjectAccess.NONE and keys is KeyAccess.READ
        elif kind.__name__ in READING:
            expected = projects is not ProjectAccess.NONE
        else:
            expected = projects is ProjectAccess.WRITE
        assert may(api_key(projects, keys), kind) == expected, (projects, keys)


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_superusers_may_everything_of_projects_and_the_administrator_what_is_the_administrators(
    kind: type[Command[Any]],
) -> None:
    assert may(SUPERUSER, kind) == (kind.__name__ not in NOBODY_ELSES | {"GetHttpChallenge"})
    assert may(ADMIN, kind) == (kind.__name__ in NOBODY_ELSES | {"GetOrder"})


OTHERS = [
    (kind, role)
    for kind in PrincipalKind
    for role in (None, *Role)
    if kind not in {PrincipalKind.ADMIN, PrincipalKind.API_KEY}
    and (kind, role) != (PrincipalKind.USER, Role.SUPERUSER)
]


@pytest.mark.parametrize(("kind", "role"), OTHERS)
def test_nobody_else_may_anything_whatever_they_are_said_to_be_capable_of(
    kind: PrincipalKind, role: Role | None
) -> None:
    capabilities = KeyPermissions(projects=ProjectAccess.WRITE, keys=KeyAccess.READ).capabilities()
    actor = Principal(kind=kind, id="1", name="x", role=role, capabilities=capabilities)
    assert not any(may(actor, command) for command in COMMANDS)


def test_a_key_is_no_superuser_whatever_its_role() -> None:
    key = api_key(ProjectAccess.READ).model_copy(update={"role": Role.SUPERUSER})
    assert not may(key, acme.DeleteProject)


def test_a_command_that_nobody_listed_is_refused() -> None:
    class Unlisted(ProjectCommand[HttpChallenge]):
        """Of no handler."""

    everything = api_key(ProjectAccess.WRITE, KeyAccess.READ)
    assert not any(may(actor, Unlisted) for actor in (ADMIN, SUPERUSER, everything))


def test_every_command_but_the_cas_question_is_listed() -> None:
    assert {*NEEDS, *OF_THE_ADMINISTRATOR} == set(COMMANDS) - {GetHttpChallenge}
    assert len(COMMANDS) > 20
