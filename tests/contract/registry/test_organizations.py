"""Organisations and who belongs to them."""

import asyncio
from typing import Any

import pytest

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Command, Done
from contracts.principal import Role
from contracts.users import (
    AddMember,
    CreateOrganization,
    CreateUser,
    DeleteOrganization,
    GetOrganization,
    GetUser,
    ListMembers,
    ListOrganizations,
    OrganizationChanges,
    RemoveMember,
    UpdateOrganization,
)
from tests.contract.registry.dialogue import keyed
from tests.contract.registry.people import People, Person, bearer, said


async def somebody_of_each_kind(people: People, organization_id: int) -> dict[str, Person]:
    """Return callers by how they stand to an organisation."""
    elsewhere = await people.organization()
    return {
        "superuser": people.root,
        "admin": await people.person(Role.ADMIN, organization_id=organization_id),
        "member": await people.person(organization_id=organization_id),
        "admin elsewhere": await people.person(Role.ADMIN, organization_id=elsewhere.id),
        "member elsewhere": await people.person(organization_id=elsewhere.id),
        "admin of nothing": await people.person(Role.ADMIN),
        "user of nothing": await people.person(),
    }


async def test_a_superuser_makes_organisations_and_it_is_told(people: People) -> None:
    made = await people.ask(
        people.root, CreateOrganization, name="Zoë & Sons", description="of Köln"
    )
    assert (made.name, made.description) == ("Zoë & Sons", "of Köln")
    assert await people.ask(people.root, GetOrganization, organization_id=made.id) == made
    record, (subject, event) = await people.last(), await people.last_event()
    assert record["action"] == "org_create"
    assert record["object"] == {
        "type": "organization",
        "id": str(made.id),
        "name": "Zoë & Sons",
        "organization_id": made.id,
    }
    assert (subject, event) == (
        "organization.created",
        {"organization_id": made.id, "name": "Zoë & Sons"},
    )


async def test_a_name_is_taken_once_in_whatever_case(people: People) -> None:
    await people.organization("Acme")
    other = await people.organization("Other")
    for name in ("Acme", "ACME", "acme"):
        with pytest.raises(CertwireError) as refused:
            await people.organization(name)
        assert refused.value.code is ErrorCode.ALREADY_EXISTS
        assert refused.value.detail == "Organization with this name already exists"
        changes = OrganizationChanges(name=name)
        code = await people.refusal(
            people.root, UpdateOrganization, organization_id=other.id, changes=changes
        )
        assert code is ErrorCode.ALREADY_EXISTS
    commands = [said(people.root, CreateOrganization, name="Twin") for _ in range(20)]
    codes = await asyncio.gather(*(people.code(command) for command in commands))
    assert (codes.count(None), codes.count(ErrorCode.ALREADY_EXISTS)) == (1, 19)


async def test_who_may_do_what(people: People) -> None:
    here = await people.organization()
    callers = await somebody_of_each_kind(people, here.id)
    about = {"organization_id": here.id}
    commands: list[tuple[type[Command[Any]], dict[str, Any], set[str]]] = [
        (GetOrganization, about, {"superuser", "admin", "member"}),
        (ListMembers, {**about, "skip": 0, "limit": 10}, {"superuser", "admin", "member"}),
        (
            UpdateOrganization,
            {**about, "changes": OrganizationChanges(description="new")},
            {"superuser", "admin"},
        ),
        (DeleteOrganization, about, set()),  # even a superuser not, while there are members
    ]
    for kind, fields, may in commands:
        for name, who in callers.items():
            code = await people.refusal(who, kind, **fields)
            if name == "superuser" and not may:
                assert code is ErrorCode.CONFLICT
            else:
                assert (code is None) is (name in may), (kind, name, code)
                assert code in {None, ErrorCode.FORBIDDEN}
    for name, who in callers.items():
        code = await people.refusal(who, CreateOrganization, name=f"of {name}")
        assert (code is None) is (name == "superuser")
        for kind, fields, _ in commands:
            unknown = {**fields, "organization_id": 2**62}
            code = await people.refusal(who, kind, **unknown)
            assert code is (ErrorCode.NOT_FOUND if name == "superuser" else ErrorCode.FORBIDDEN)


async def test_everybody_sees_the_own_one_and_a_superuser_all(people: People) -> None:
    here = await people.organization()
    callers = await somebody_of_each_kind(people, here.id)
    everything = {"skip": 0, "limit": 100}
    for name, seen in (
        ("superuser", 2),
        ("admin", 1),
        ("member", 1),
        ("admin elsewhere", 1),
        ("admin of nothing", 0),
        ("user of nothing", 0),
    ):
        page = await people.ask(callers[name], ListOrganizations, **everything)
        assert len(page.organizations) == seen, name
    page = await people.ask(people.root, ListOrganizations, skip=1, limit=1)
    assert [organization.id > here.id for organization in page.organizations] == [True]
    page = await people.ask(callers["admin"], ListOrganizations, **everything)
    assert page.organizations == (here,)


async def test_a_change_is_told_and_none_is_not(people: People) -> None:
    here = await people.organization("Old")
    changed = await people.ask(
        people.root,
        UpdateOrganization,
        organization_id=here.id,
        changes=OrganizationChanges(name="New", description="words"),
    )
    assert (changed.name, changed.description) == ("New", "words")
    assert changed.updated_at > here.updated_at
    record = await people.last()
    assert (record["action"], record["detail"]) == (
        "org_update",
        {
            "from": {"name": "Old", "description": None},
            "to": {"name": "New", "description": "words"},
        },
    )
    assert (await people.last_event())[0] == "organization.updated"
    same = await people.ask(
        people.root, UpdateOrganization, organization_id=here.id, changes=OrganizationChanges()
    )
    assert same == changed
    assert await people.last() == record


async def test_members_come_and_go_and_it_is_told(people: People) -> None:
    here, elsewhere = await people.organization("Here"), await people.organization()
    ann = await people.person()
    user, record = ann.user, await people.last()
    for before, organization in ((None, elsewhere), (elsewhere.id, here)):
        user = await people.joins(ann.id, organization.id)
        assert user.organization_id == organization.id
        record, (subject, event) = await people.last(), await people.last_event()
        assert record["action"] == "org_add_user"
        assert record["object"]["id"] == str(organization.id)
        assert record["detail"] == {
            "user_id": ann.id,
            "username": ann.user.username,
            "from": before,
        }
        assert (subject, event["organization_id"]) == ("user.updated", organization.id)
    principal = await people.who(ann.token)
    assert principal is not None
    assert principal.organization_id == here.id
    page = await people.ask(people.root, ListMembers, organization_id=here.id, skip=0, limit=10)
    assert page.users == (user,)
    again = await people.joins(ann.id, here.id)
    assert (again, await people.last()) == (user, record), "who belongs there need not join"
    removed = await people.ask(people.root, RemoveMember, organization_id=here.id, user_id=ann.id)
    assert removed.organization_id is None
    assert (await people.last())["action"] == "org_remove_user"
    for somewhere in (here, elsewhere):
        code = await people.refusal(
            people.root, RemoveMember, organization_id=somewhere.id, user_id=ann.id
        )
        assert code is ErrorCode.NOT_FOUND


async def test_an_administrator_takes_in_who_is_free_and_lets_members_go(people: People) -> None:
    here, elsewhere = await people.organization(), await people.organization()
    admin = await people.person(Role.ADMIN, organization_id=here.id)
    free, theirs = await people.user(), await people.user(organization_id=elsewhere.id)
    chief = await people.user(Role.SUPERUSER, organization_id=here.id)
    taken = await people.ask(admin, AddMember, organization_id=here.id, user_id=free.id)
    assert taken.organization_id == here.id
    for user_id in (theirs.id, people.root.id, (await people.user(Role.ADMIN)).id, 2**62):
        code = await people.refusal(admin, AddMember, organization_id=here.id, user_id=user_id)
        assert code is ErrorCode.FORBIDDEN
    for user_id in (theirs.id, chief.id, people.root.id, 2**62):
        code = await people.refusal(admin, RemoveMember, organization_id=here.id, user_id=user_id)
        assert code is ErrorCode.FORBIDDEN
    for kind, user_id in ((AddMember, free.id), (RemoveMember, theirs.id)):
        code = await people.refusal(admin, kind, organization_id=elsewhere.id, user_id=user_id)
        assert code is ErrorCode.FORBIDDEN
    gone = await people.ask(admin, RemoveMember, organization_id=here.id, user_id=free.id)
    assert gone.organization_id is None
    assert (await people.ask(people.root, GetUser, user_id=theirs.id)) == theirs


async def test_one_with_members_is_not_deleted_and_an_id_never_comes_back(people: People) -> None:
    here = await people.organization("Acme")
    ann = await people.user(organization_id=here.id)
    code = await people.refusal(people.root, DeleteOrganization, organization_id=here.id)
    assert code is ErrorCode.CONFLICT
    await people.ask(people.root, RemoveMember, organization_id=here.id, user_id=ann.id)
    credential = bearer(people.root.token)
    command = DeleteOrganization(
        call=keyed("k", credential.sha256), credential=credential, organization_id=here.id
    )
    assert await people.send(command) == Done()
    assert await people.send(command) == Done(), "a repeat under its key"
    assert [record["action"] for record in await people.recorded()].count("org_delete") == 1
    assert (await people.last_event())[0] == "organization.deleted"
    code = await people.refusal(people.root, GetOrganization, organization_id=here.id)
    assert code is ErrorCode.NOT_FOUND
    assert (await people.organization("Acme")).id > here.id


@pytest.mark.parametrize("at_once", range(3))
async def test_nobody_belongs_to_what_is_deleted_meanwhile(people: People, at_once: int) -> None:
    here, free = await people.organization(), await people.user()
    about = {"organization_id": here.id}
    commands = [
        said(people.root, AddMember, user_id=free.id, **about),
        said(people.root, CreateUser, **people.new(**about)),
        said(people.root, DeleteOrganization, **about),
    ]
    commands = commands[at_once:] + commands[:at_once]
    codes = await asyncio.gather(*(people.code(command) for command in commands))
    assert set(codes) <= {None, ErrorCode.NOT_FOUND, ErrorCode.CONFLICT}
    dangling = await people.tables.values(
        "SELECT count(*) FROM registry.users WHERE organization_id IS NOT NULL AND NOT EXISTS"
        " (SELECT FROM registry.organization WHERE id = organization_id)"
    )
    assert dangling == [0]
