"""Users: the first one, those that come after, and what each of them may do."""

import asyncio
from typing import Any

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Done
from contracts.principal import Role
from contracts.users import (
    CreateUser,
    DeleteUser,
    GetUser,
    ListUsers,
    UpdateUser,
    User,
    UserChanges,
)
from services.registry.app import open_registry
from services.registry.handlers.users import create_user
from services.registry.settings import RegistrySettings
from tests.contract.registry.dialogue import keyed
from tests.contract.registry.people import PASSWORD, People, Person, bearer, said
from tests.support.registry import StandInIssuer, a_registry, initialised, quick_passwords
from tests.support.running import call
from tests.support.servers import Place

FLAGS = (
    "can_create_ca",
    "can_create_cert",
    "can_revoke_cert",
    "can_export_private_key",
    "can_delete_ca",
)
ABLE: dict[str, Any] = dict.fromkeys(FLAGS, True)


def first(name: str, role: Role = Role.SUPERUSER) -> CreateUser:
    return CreateUser(
        call=call(),
        credential=None,
        username=name,
        email=f"{name}@example.com",
        password=PASSWORD,
        role=role,
    )


# --- The first one ------------------------------------------------------------------------------


async def test_of_20_parallel_first_users_there_is_one(place: Place) -> None:
    async with a_registry(place) as local:
        replica = await open_registry(place.settings(RegistrySettings), StandInIssuer().request)
        replica.passwords = quick_passwords()
        try:
            answers = await asyncio.gather(
                *(create_user(first(f"user-{n}"), (local, replica)[n % 2]) for n in range(20)),
                return_exceptions=True,
            )
        finally:
            await replica.runtime.close()
        made = [answer for answer in answers if isinstance(answer, User)]
        refused = [answer.code for answer in answers if isinstance(answer, CertwireError)]
        assert len(made) == 1
        assert refused == [ErrorCode.CREDENTIAL_MISSING] * 19
        assert made[0].role is Role.SUPERUSER


async def test_init_makes_its_superuser_beside_a_first_one_of_the_name(place: Place) -> None:
    async with a_registry(place) as registry:
        await create_user(first("superuser", Role.USER), registry)
        made = await initialised(registry)
    assert made.username.startswith("superuser-")


async def test_after_the_first_one_nobody_registers(people: People) -> None:
    assert await people.code(first("mallory")) is ErrorCode.CREDENTIAL_MISSING
    assert await people.code(first("mallory", Role.USER)) is ErrorCode.CREDENTIAL_MISSING
    assert await people.recorded("refused") == [], "without a credential there is no record"


# --- Making them --------------------------------------------------------------------------------


async def test_a_superuser_makes_anybody_anywhere(people: People) -> None:
    organization = await people.organization()
    user = people.root.user
    for role in Role:
        fields = {**ABLE, "organization_id": organization.id}
        user = await people.user(role, **fields)
        assert (user.role, user.organization_id, user.is_active) == (role, organization.id, True)
        assert [getattr(user, flag) for flag in FLAGS] == [True] * 5
        assert await people.ask(people.root, GetUser, user_id=user.id) == user
    record, (subject, event) = await people.last(), await people.last_event()
    assert record["action"] == "user_create"
    assert record["object"] == {
        "type": "user",
        "id": str(user.id),
        "name": user.username,
        "organization_id": organization.id,
    }
    assert subject == "user.created"
    assert event == {
        "user_id": user.id,
        "username": user.username,
        "role": "user",
        "organization_id": organization.id,
        "is_active": True,
    }
    assert PASSWORD not in str(await people.tables.values("SELECT o::text FROM registry.outbox o"))


async def test_an_administrator_makes_plain_users_of_the_own_organisation(people: People) -> None:
    here, elsewhere = await people.organization(), await people.organization()
    admin = await people.person(Role.ADMIN, organization_id=here.id)
    for where in (None, here.id):
        user = await people.ask(
            admin, CreateUser, **people.new(organization_id=where, can_create_ca=True)
        )
        assert (user.organization_id, user.role, user.can_create_ca) == (here.id, Role.USER, True)
    for fields in (
        {"role": Role.SUPERUSER},
        {"role": Role.ADMIN},
        {"organization_id": elsewhere.id},
        {"organization_id": 2**62},
    ):
        assert await people.refusal(admin, CreateUser, **people.new(**fields)) is (
            ErrorCode.FORBIDDEN
        )


async def test_nobody_else_makes_users(people: People) -> None:
    organization = await people.organization()
    for person in (
        await people.person(organization_id=organization.id, **ABLE),
        await people.person(**ABLE),
        await people.person(Role.ADMIN, **ABLE),
    ):
        for fields in ({}, {"organization_id": organization.id}, {"organization_id": None}):
            assert await people.refusal(person, CreateUser, **people.new(**fields)) is (
                ErrorCode.FORBIDDEN
            )


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"email": "other@example.com"}, "Username already registered"),
        ({"username": "OTHER", "email": "other@example.com"}, None),
        ({"username": "ANN", "email": "other@example.com"}, "Username already registered"),
        ({"username": "other"}, "Email already registered"),
        ({"username": "other", "email": "Ann@Example.COM"}, "Email already registered"),
        ({}, "Username already registered"),
    ],
)
async def test_names_and_addresses_are_taken_once_in_whatever_case(
    people: People, changes: dict[str, str], detail: str | None
) -> None:
    taken: dict[str, Any] = {"username": "ann", "email": "ann@example.com"}
    await people.user(**taken)
    command = said(people.root, CreateUser, **people.new(**{**taken, **changes}))
    if detail is None:
        await people.send(command)
        return
    with pytest.raises(CertwireError) as refused:
        await people.send(command)
    assert (refused.value.code, refused.value.detail) == (ErrorCode.ALREADY_EXISTS, detail)


async def test_of_20_parallel_users_of_a_name_there_is_one(people: People) -> None:
    commands = [
        said(people.root, CreateUser, **people.new(username="ann", email=f"{n}@example.com"))
        for n in range(20)
    ]
    codes = await asyncio.gather(*(people.code(command) for command in commands))
    assert (codes.count(None), codes.count(ErrorCode.ALREADY_EXISTS)) == (1, 19)


async def test_a_repeat_under_its_key_gets_the_same_user(people: People) -> None:
    credential = bearer(people.root.token)
    circumstances = keyed("k", credential.sha256)
    command = CreateUser(call=circumstances, credential=credential, **people.new())
    made = await people.send(command)
    assert await people.send(command) == made
    other = command.model_copy(
        update={"call": keyed("k", credential.sha256, "c" * 64), "username": "other"}
    )
    assert await people.code(other) is ErrorCode.IDEMPOTENCY_KEY_REUSED


async def test_an_organisation_that_is_none_is_not_found(people: People) -> None:
    fields = people.new(organization_id=2**62)
    assert await people.refusal(people.root, CreateUser, **fields) is ErrorCode.NOT_FOUND


async def test_an_inactive_user_does_not_log_in(people: People) -> None:
    user = await people.user(is_active=False)
    with pytest.raises(CertwireError) as refused:
        await people.log_in(user.username)
    assert refused.value.code is ErrorCode.LOGIN_FAILED


# --- Seeing them --------------------------------------------------------------------------------


async def test_a_page_of_users_is_a_superusers(people: People) -> None:
    made = [await people.user() for _ in range(5)]
    page = await people.ask(people.root, ListUsers, skip=2, limit=3)
    assert list(page.users) == made[1:4]
    page = await people.ask(people.root, ListUsers, skip=0, limit=1000)
    assert [user.id for user in page.users] == [people.root.id, *(user.id for user in made)]
    assert (await people.ask(people.root, ListUsers, skip=2**31, limit=1)).users == ()
    organization = await people.organization()
    for role in (Role.ADMIN, Role.USER):
        person = await people.person(role, organization_id=organization.id)
        assert await people.refusal(person, ListUsers, skip=0, limit=1) is ErrorCode.FORBIDDEN


async def test_an_unknown_id_is_told_from_somebody_elses_to_superusers_alone(
    people: People,
) -> None:
    here = await people.organization()
    admin = await people.person(Role.ADMIN, organization_id=here.id)
    member = await people.person(organization_id=here.id)
    stranger = await people.person()
    assert (await people.ask(admin, GetUser, user_id=member.id)).id == member.id
    for unseen in (2**62, stranger.id, people.root.id):
        assert await people.refusal(admin, GetUser, user_id=unseen) is ErrorCode.FORBIDDEN
        assert await people.refusal(admin, DeleteUser, user_id=unseen) is ErrorCode.FORBIDDEN
        assert await people.refusal(member, GetUser, user_id=unseen) is ErrorCode.FORBIDDEN
    assert await people.refusal(member, GetUser, user_id=admin.id) is ErrorCode.FORBIDDEN
    assert (await people.ask(member, GetUser, user_id=member.id)).id == member.id
    for kind in (GetUser, DeleteUser):
        assert await people.refusal(people.root, kind, user_id=2**62) is ErrorCode.NOT_FOUND


# --- Changing them ------------------------------------------------------------------------------


async def changes_refused(people: People, who: Person, user_id: int, **changes: Any) -> bool:  # noqa: ANN401 - any change
    code = await people.refusal(who, UpdateUser, user_id=user_id, changes=UserChanges(**changes))
    assert code in {None, ErrorCode.FORBIDDEN}
    return code is not None


EVERY_CHANGE: list[dict[str, Any]] = [
    {"email": "new@example.com"},
    {"role": Role.SUPERUSER},
    {"role": Role.ADMIN},
    {"role": Role.USER},
    {"is_active": False},
    {"is_active": True},
    {"organization_id": 1},
    *({flag: value} for flag in FLAGS for value in (True, False)),
    {"password": "another horse"},  # at last: it ends the sessions
]


async def test_one_changes_the_own_address_and_password_and_nothing_else(people: People) -> None:
    organization = await people.organization()
    for role in Role:
        person = await people.person(role, organization_id=organization.id)
        for number, changes in enumerate(EVERY_CHANGE):
            if "email" in changes:
                changes = {"email": f"{role}-{number}@example.com"}  # noqa: PLW2901 - nobody else's
            own = not changes.keys() - {"email", "password"}
            assert await changes_refused(people, person, person.id, **changes) is not own
        assert await people.refusal(person, GetUser, user_id=None) is ErrorCode.CREDENTIAL_REFUSED
        await people.again(person, "another horse")


async def test_an_administrator_changes_members_but_no_role(people: People) -> None:
    here, elsewhere = await people.organization(), await people.organization()
    admin = await people.person(Role.ADMIN, organization_id=here.id)
    member = await people.user(organization_id=here.id)
    for changes in EVERY_CHANGE:
        theirs = not changes.keys() & {"role", "is_active", "organization_id"}
        assert await changes_refused(people, admin, member.id, **changes) is not theirs
    for nobody in (
        await people.user(organization_id=elsewhere.id),
        await people.user(),
        await people.user(Role.SUPERUSER, organization_id=here.id),
    ):
        for changes in EVERY_CHANGE:
            assert await changes_refused(people, admin, nobody.id, **changes)
        assert await people.ask(people.root, GetUser, user_id=nobody.id) == nobody


async def test_a_member_changes_nobody_else(people: People) -> None:
    here = await people.organization()
    member = await people.person(organization_id=here.id, **ABLE)
    other = await people.user(organization_id=here.id)
    for changes in EVERY_CHANGE:
        assert await changes_refused(people, member, other.id, **changes)


async def test_a_change_counts_from_the_next_request_on_and_is_told(people: People) -> None:
    here, elsewhere = await people.organization(), await people.organization()
    person = await people.person(Role.ADMIN, organization_id=here.id)
    changed = await people.change(
        people.root,
        person.id,
        role=Role.USER,
        organization_id=elsewhere.id,
        can_create_ca=True,
        email="secret.address@example.com",
        password="another horse",
    )
    assert changed.updated_at > person.user.updated_at
    assert (changed.role, changed.organization_id) == (Role.USER, elsewhere.id)
    again = await people.again(person, "another horse")
    principal = await people.who(again.token)
    assert principal is not None
    assert principal.capabilities == ("create_ca",)
    assert (principal.role, principal.organization_id) == (Role.USER, elsewhere.id)
    record = await people.last()
    assert record["detail"] == {
        "changed": ["can_create_ca", "email", "organization_id", "password", "role"],
        "from": {"role": "admin", "organization_id": here.id, "can_create_ca": False},
        "to": {"role": "user", "organization_id": elsewhere.id, "can_create_ca": True},
    }
    assert (await people.last_event())[0] == "user.updated"
    told = str(await people.tables.values("SELECT o::text FROM registry.outbox o"))
    assert "secret.address" not in told
    assert "another horse" not in told


async def test_no_change_is_no_record(people: People) -> None:
    user = await people.user()
    before = await people.recorded()
    assert await people.change(people.root, user.id) == user
    assert await people.recorded() == before


async def test_an_address_of_somebody_else_is_taken(people: People) -> None:
    ann, bob = await people.person(), await people.user()
    changes = UserChanges(email=bob.email.upper())
    assert await people.refusal(ann, UpdateUser, user_id=None, changes=changes) is (
        ErrorCode.ALREADY_EXISTS
    )
    same = await people.change(ann, None, email=ann.user.email.upper())
    assert same.email == ann.user.email.upper(), "the own one in another case is no one else's"


async def test_a_repeat_of_the_own_new_password_is_answered_under_its_key(people: People) -> None:
    ann = await people.person()
    credential = bearer(ann.token)
    command = UpdateUser(
        call=keyed("k", credential.sha256),
        credential=credential,
        user_id=None,
        changes=UserChanges(password="another horse"),
    )
    changed = await people.send(command)
    assert await people.send(command) == changed
    assert await people.code(command.model_copy(update={"call": call()})) is (
        ErrorCode.CREDENTIAL_REFUSED
    )


# --- Losing them --------------------------------------------------------------------------------


async def test_a_deleted_user_is_gone_and_the_id_never_comes_back(people: People) -> None:
    ann = await people.user()
    assert await people.ask(people.root, DeleteUser, user_id=ann.id) == Done()
    assert await people.refusal(people.root, GetUser, user_id=ann.id) is ErrorCode.NOT_FOUND
    record = await people.last()
    assert (record["action"], record["object"]["id"]) == ("user_delete", str(ann.id))
    assert (await people.last_event())[0] == "user.deleted"
    again = await people.user(username=ann.username, email=ann.email)
    assert again.id > ann.id


async def test_superusers_stay_until_another_one_goes_after_them(people: People) -> None:
    assert await people.refusal(people.root, DeleteUser, user_id=people.root.id) is (
        ErrorCode.CONFLICT
    )
    for changes in ({"role": Role.USER}, {"is_active": False}):
        assert await changes_refused(people, people.root, people.root.id, **changes)
    another = await people.person(Role.SUPERUSER)
    await people.ask(another, DeleteUser, user_id=people.root.id)
    assert await people.refusal(people.root, GetUser, user_id=None) is (
        ErrorCode.CREDENTIAL_REFUSED
    )


@pytest.mark.parametrize("way", ["demote", "deactivate", "delete"])
async def test_of_superusers_that_go_after_each_other_one_is_left(people: People, way: str) -> None:
    chiefs = [people.root, *[await people.person(Role.SUPERUSER) for _ in range(4)]]
    changes = UserChanges(role=Role.USER) if way == "demote" else UserChanges(is_active=False)

    def against(who: Person, whom: Person) -> Any:  # noqa: ANN401 - a command
        if way == "delete":
            return said(who, DeleteUser, user_id=whom.id)
        return said(who, UpdateUser, user_id=whom.id, changes=changes)

    commands = [against(who, whom) for who in chiefs for whom in chiefs if who is not whom]
    codes = await asyncio.gather(*(people.code(command) for command in commands))
    assert codes.count(None) >= len(chiefs) - 1
    left = await people.tables.values(
        "SELECT count(*) FROM registry.users WHERE role = 'superuser' AND is_active"
    )
    assert left == [1]


async def test_what_an_administrator_loses_meanwhile_is_not_used_any_more(people: People) -> None:
    """Whoever waits for the change of the own rights has the new ones."""
    here = await people.organization()
    admin = await people.person(Role.ADMIN, organization_id=here.id)
    creations = [said(admin, CreateUser, **people.new()) for _ in range(10)]
    demotion = people.change(people.root, admin.id, role=Role.USER)
    codes = await asyncio.gather(*(people.code(command) for command in creations), demotion)
    assert set(codes[:-1]) <= {None, ErrorCode.FORBIDDEN}
    created = await people.tables.values(
        "SELECT max(created_at) < $1 FROM registry.users WHERE organization_id = $2 AND id <> $3",
        (await people.ask(people.root, GetUser, user_id=admin.id)).updated_at,
        here.id,
        admin.id,
    )
    assert created in ([True], [None])
