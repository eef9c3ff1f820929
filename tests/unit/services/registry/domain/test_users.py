"""The permission table of users and organisations: what is not listed is refused."""

from itertools import product
from typing import Any

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command
from contracts.principal import ANONYMOUS, Principal, PrincipalKind, Role
from contracts.users import (
    AddMember,
    CreateUser,
    DeleteUser,
    GetUser,
    RemoveMember,
    User,
    UserChanges,
)
from services.registry.domain.users import (
    CHANGES,
    MAY,
    ROLES,
    Standing,
    authorise,
    authorise_addition,
    authorise_changes,
    authorise_creation,
    authorise_deletion,
    authorise_removal,
    organization_of_new,
    standing_to_organization,
    standing_to_user,
)
from shared.clock import utc_now
from tests.support.running import call

HERE, ELSEWHERE = 3, 4
FLAGS = ("create_ca", "create_cert", "revoke_cert", "export_private_key", "delete_ca")
SOMEBODYS = {"credential": {"kind": "bearer", "sha256": "a" * 64}}
VALUES = {
    "email": "a@example.com",
    "password": "correct horse",
    "role": Role.USER,
    "is_active": False,
    "organization_id": HERE,
    **{f"can_{flag}": False for flag in FLAGS},
}


def actor(role: Role, organization_id: int | None = HERE, user_id: int = 1) -> Principal:
    return Principal(
        kind=PrincipalKind.USER,
        id=str(user_id),
        name="x",
        role=role,
        organization_id=organization_id,
        capabilities=FLAGS,  # they give nothing here
    )


def a_user(role: Role, organization_id: int | None = HERE, user_id: int = 2) -> User:
    return User(
        id=user_id,
        username="y",
        email="y@example.com",
        role=role,
        organization_id=organization_id,
        is_active=True,
        created_at=utc_now(),
        updated_at=utc_now(),
        **dict.fromkeys([f"can_{flag}" for flag in FLAGS], True),
    )


def is_refused(check: Any, *arguments: Any) -> bool:  # noqa: ANN401 - any rule
    try:
        check(*arguments)
    except CertwireError as error:
        return error.code is ErrorCode.FORBIDDEN and error.actor is not None
    return False


@pytest.mark.parametrize("kind", MAY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("standing", Standing)
def test_a_standing_may_what_the_table_says_and_nothing_else(
    kind: type[Command[Any]], standing: Standing
) -> None:
    command = kind.model_construct(call=call())
    assert is_refused(authorise, actor(Role.USER), command, standing) is (standing not in MAY[kind])


def test_a_command_without_a_row_is_refused_to_everybody() -> None:
    class Unlisted(Command[User]):
        pass

    assert all(
        is_refused(
            authorise, actor(Role.SUPERUSER), Unlisted.model_construct(call=call()), standing
        )
        for standing in Standing
    )


@pytest.mark.parametrize(
    ("who", "whom", "standing"),
    [
        (actor(Role.SUPERUSER, None), a_user(Role.SUPERUSER), Standing.SUPERUSER),
        (actor(Role.SUPERUSER, ELSEWHERE), a_user(Role.USER), Standing.SUPERUSER),
        (actor(Role.SUPERUSER), a_user(Role.SUPERUSER, user_id=1), Standing.ONESELF),
        (actor(Role.SUPERUSER), None, Standing.SUPERUSER),
        (actor(Role.ADMIN), a_user(Role.USER), Standing.ADMIN),
        (actor(Role.ADMIN), a_user(Role.ADMIN), Standing.ADMIN),
        (actor(Role.ADMIN), a_user(Role.SUPERUSER), Standing.STRANGER),
        (actor(Role.ADMIN), a_user(Role.USER, ELSEWHERE), Standing.STRANGER),
        (actor(Role.ADMIN), a_user(Role.USER, None), Standing.STRANGER),
        (actor(Role.ADMIN), a_user(Role.ADMIN, user_id=1), Standing.ONESELF),
        (actor(Role.ADMIN), None, Standing.STRANGER),
        (actor(Role.ADMIN, None), a_user(Role.USER, None), Standing.STRANGER),
        (actor(Role.USER), a_user(Role.USER), Standing.MEMBER),
        (actor(Role.USER), a_user(Role.ADMIN), Standing.MEMBER),
        (actor(Role.USER), a_user(Role.SUPERUSER), Standing.STRANGER),
        (actor(Role.USER), a_user(Role.USER, user_id=1), Standing.ONESELF),
        (actor(Role.USER, None), a_user(Role.USER, None), Standing.STRANGER),
        (actor(Role.USER), None, Standing.STRANGER),
    ],
)
def test_how_somebody_stands_to_a_user(
    who: Principal, whom: User | None, standing: Standing
) -> None:
    assert standing_to_user(who, whom) is standing


@pytest.mark.parametrize(
    ("who", "standing"),
    [
        (actor(Role.SUPERUSER, None), Standing.SUPERUSER),
        (actor(Role.ADMIN), Standing.ADMIN),
        (actor(Role.ADMIN, ELSEWHERE), Standing.STRANGER),
        (actor(Role.ADMIN, None), Standing.STRANGER),
        (actor(Role.USER), Standing.MEMBER),
        (actor(Role.USER, ELSEWHERE), Standing.STRANGER),
        (ANONYMOUS, Standing.STRANGER),
    ],
)
def test_how_somebody_stands_to_an_organisation(who: Principal, standing: Standing) -> None:
    assert standing_to_organization(who, HERE) is standing


def test_who_is_no_user_is_a_stranger_whatever_is_said_of_them() -> None:
    for kind in set(PrincipalKind) - {PrincipalKind.USER}:
        somebody = actor(Role.SUPERUSER).model_copy(update={"kind": kind})
        assert standing_to_organization(somebody, HERE) is Standing.STRANGER
        assert standing_to_user(somebody, a_user(Role.USER, user_id=1)) is Standing.STRANGER


@pytest.mark.parametrize("field", UserChanges.model_fields)
@pytest.mark.parametrize("standing", Standing)
def test_each_field_is_changed_by_those_of_its_row(field: str, standing: Standing) -> None:
    changes = UserChanges(**{field: VALUES[field]})
    refused = is_refused(authorise_changes, actor(Role.ADMIN), changes, standing)
    assert refused is (standing not in CHANGES[field])


def test_one_field_too_many_refuses_them_all() -> None:
    for role in Role:
        both = UserChanges(email="a@example.com", role=role)
        assert is_refused(authorise_changes, actor(Role.USER), both, Standing.ONESELF)
        assert is_refused(authorise_changes, actor(Role.ADMIN), both, Standing.ADMIN)


def test_nobody_changes_the_own_rights() -> None:
    rights = set(CHANGES) - {"email", "password"}
    assert not [field for field in rights if Standing.ONESELF in CHANGES[field]]


def creation(role: Role, organization_id: int | None = None) -> CreateUser:
    return CreateUser(
        call=call(),
        username="y",
        email="y@example.com",
        password="correct horse",
        role=role,
        organization_id=organization_id,
        **SOMEBODYS,
    )


@pytest.mark.parametrize(("maker", "made"), [*product(Role, Role)])
@pytest.mark.parametrize("where", [None, HERE, ELSEWHERE])
def test_who_makes_whom_and_where(maker: Role, made: Role, where: int | None) -> None:
    who, command = actor(maker), creation(made, where)
    belongs_to = organization_of_new(who, command)
    standing = standing_to_organization(who, belongs_to)
    may = standing in MAY[CreateUser] and standing in ROLES[made]
    assert is_refused(authorise_creation, who, command, belongs_to) is not may
    assert may is (
        maker is Role.SUPERUSER
        or (maker is Role.ADMIN and made is Role.USER and where in {None, HERE})
    )


def test_an_administrators_user_belongs_to_the_administrators_organisation() -> None:
    assert organization_of_new(actor(Role.ADMIN), creation(Role.USER)) == HERE
    assert organization_of_new(actor(Role.SUPERUSER), creation(Role.USER)) is None
    nowhere = actor(Role.ADMIN, None)
    assert organization_of_new(nowhere, creation(Role.USER)) is None
    assert is_refused(authorise_creation, nowhere, creation(Role.USER), None)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("where", [None, HERE, ELSEWHERE])
def test_an_administrator_takes_in_plain_users_of_nobody(role: Role, where: int | None) -> None:
    command = AddMember(call=call(), organization_id=HERE, user_id=2, **SOMEBODYS)
    user = a_user(role, where)
    may = where == HERE or (where is None and role is Role.USER)
    assert is_refused(authorise_addition, actor(Role.ADMIN), command, user) is not may
    assert not is_refused(authorise_addition, actor(Role.SUPERUSER, None), command, user)
    assert is_refused(authorise_addition, actor(Role.USER), command, user)
    assert is_refused(authorise_addition, actor(Role.ADMIN, ELSEWHERE), command, user)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("where", [None, HERE, ELSEWHERE])
def test_an_administrator_lets_go_of_members_but_superusers(role: Role, where: int | None) -> None:
    command = RemoveMember(call=call(), organization_id=HERE, user_id=2, **SOMEBODYS)
    user = a_user(role, where)
    may = where == HERE and role is not Role.SUPERUSER
    assert is_refused(authorise_removal, actor(Role.ADMIN), command, user) is not may
    assert not is_refused(authorise_removal, actor(Role.SUPERUSER, None), command, user)
    assert is_refused(authorise_removal, actor(Role.USER), command, user)
    assert is_refused(authorise_removal, actor(Role.ADMIN, ELSEWHERE), command, user)


def test_who_does_not_exist_is_told_to_superusers_alone() -> None:
    addition = AddMember(call=call(), organization_id=HERE, user_id=2, **SOMEBODYS)
    removal = RemoveMember(call=call(), organization_id=HERE, user_id=2, **SOMEBODYS)
    question = GetUser(call=call(), user_id=2, **SOMEBODYS)
    for role in Role:
        expected = role is not Role.SUPERUSER
        who = actor(role)
        assert is_refused(authorise_addition, who, addition, None) is expected
        assert is_refused(authorise_removal, who, removal, None) is expected
        assert is_refused(authorise, who, question, standing_to_user(who, None)) is expected


def test_a_superuser_stays_until_another_one_deletes_it() -> None:
    who = actor(Role.SUPERUSER)
    with pytest.raises(CertwireError) as refused:
        authorise_deletion(who, DeleteUser(call=call(), user_id=1, **SOMEBODYS))
    assert refused.value.code is ErrorCode.CONFLICT
    authorise_deletion(who, DeleteUser(call=call(), user_id=2, **SOMEBODYS))
    oneself = standing_to_user(who, a_user(Role.SUPERUSER, user_id=1))
    for demotion in (UserChanges(role=Role.USER), UserChanges(is_active=False)):
        assert is_refused(authorise_changes, who, demotion, oneself)
