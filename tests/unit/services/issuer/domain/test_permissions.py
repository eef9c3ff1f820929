"""The permission table, beside a second telling of the ruling."""

import itertools

import pytest

from contracts import pki
from contracts.errors import CertwireError, ErrorCode
from contracts.pki import Capability
from contracts.principal import Principal, PrincipalKind, Role
from services.issuer.app import HANDLERS
from services.issuer.domain.permissions import (
    ACTIONS,
    Action,
    Object,
    Question,
    allowed,
    authorise,
    authorise_root,
    user_id,
)

FLAGS = ("create_ca", *Capability)
LISTS = {pki.ListCas, pki.ListCertificates, pki.SearchCertificates}
"""They show what may be read, and need no CA."""
PUBLIC = {pki.GetCaCertificate, pki.GetCrl, pki.AnswerOcsp}


def user(role: Role, organization: int | None, *flags: str) -> Principal:
    return Principal(
        kind=PrincipalKind.USER,
        id="3",
        name="user",
        organization_id=organization,
        role=role,
        capabilities=flags,
    )


def ruling(actor: Principal, action: Action, of: Object, grants: frozenset[str]) -> bool:
    """Tell the ruling's sentence once more.

    superuser → creator → unowned is superuser-only → other organisation 403 → admin → read within
    the organisation → capability (the flag, or a grant).
    """
    if actor.role is Role.SUPERUSER:
        return True
    if of.created_by_user_id is not None and actor.id == str(of.created_by_user_id):
        return True
    if of.organization_id is None or of.organization_id != actor.organization_id:
        return False
    if actor.role is Role.ADMIN or action is Action.READ:
        return True
    return action in actor.capabilities or action in grants


def test_every_case_is_the_rulings() -> None:
    cases = itertools.product(Role, (None, 7, 8), (None, *FLAGS), Action, (None, 7), (None, 3, 4))
    for role, organization, flag, action, owner, creator in cases:
        actor = user(role, organization, *filter(None, [flag]))
        of = Object(owner, creator)
        for grants in (frozenset(), *(frozenset({capability}) for capability in Capability)):
            question = Question(actor, action, of, grants)
            assert allowed(question) == ruling(actor, action, of, grants), question


@pytest.mark.parametrize("kind", [kind for kind in PrincipalKind if kind is not PrincipalKind.USER])
def test_who_is_no_user_may_nothing(kind: PrincipalKind) -> None:
    other = Principal(kind=kind, id="3", name="x", organization_id=7, role=Role.SUPERUSER)
    for action in Action:
        assert not allowed(Question(other, action, Object(7, 3), frozenset(Capability)))
    with pytest.raises(CertwireError):
        authorise_root(other)
    with pytest.raises(CertwireError):
        user_id(other)


def test_the_refusal_names_who_was_refused() -> None:
    actor = user(Role.USER, 7)
    with pytest.raises(CertwireError) as refused:
        authorise(actor, Action.DELETE_CA, Object(7, None))
    assert (refused.value.code, refused.value.actor) == (ErrorCode.FORBIDDEN, actor)
    authorise(actor, Action.DELETE_CA, Object(7, None), frozenset({Capability.DELETE_CA}))
    assert user_id(actor) == 3


@pytest.mark.parametrize(
    ("actor", "may"),
    [
        (user(Role.SUPERUSER, None), True),
        (user(Role.ADMIN, 7), True),
        (user(Role.USER, 7, "create_ca"), True),
        (user(Role.USER, None, "create_ca"), True),
        (user(Role.USER, 7), False),
        (user(Role.USER, 7, *Capability), False),
    ],
)
def test_a_root_is_below_nobody(actor: Principal, *, may: bool) -> None:
    if may:
        authorise_root(actor)
    else:
        with pytest.raises(CertwireError):
            authorise_root(actor)


def test_every_capability_is_an_action() -> None:
    assert {str(capability) for capability in Capability} < {str(action) for action in Action}
    assert {str(Action.MANAGE_GRANTS), str(Action.READ)}.isdisjoint(FLAGS)


def test_every_command_of_users_has_its_action() -> None:
    of_users = {command for command in HANDLERS if command.__module__ == pki.__name__}
    assert set(ACTIONS) == of_users - LISTS - PUBLIC
