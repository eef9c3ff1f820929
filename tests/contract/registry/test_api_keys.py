"""API keys: superusers make them, they are shown once, and a deleted one is nobody's."""

import asyncio
import json
import re

import pytest

from contracts.agents import GetAuthMode, GetOwnAgent
from contracts.api_keys import (
    ApiKeyPage,
    CreateApiKey,
    CreatedApiKey,
    DeleteApiKey,
    KeyAccess,
    KeyPermissions,
    ListApiKeys,
    ProjectAccess,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Done
from contracts.principal import Credential, CredentialKind, Principal, PrincipalKind, Role
from contracts.registry import ResolveCredentials
from contracts.users import (
    CreateUser,
    DeleteUser,
    EndSession,
    GetUser,
    ListOrganizations,
    ListUsers,
    UpdateUser,
    UserChanges,
)
from shared.secrets import token_hash
from tests.contract.registry.dialogue import keyed
from tests.contract.registry.people import People, Person, bearer, said
from tests.support.running import call

READ = KeyPermissions(projects=ProjectAccess.READ)
WRITE = KeyPermissions(projects=ProjectAccess.WRITE, keys=KeyAccess.READ)
KINDS = (CredentialKind.BEARER, CredentialKind.API_KEY)


async def made(
    people: People, name: str = "deploy", permissions: KeyPermissions = READ
) -> CreatedApiKey:
    """Let the superuser make a key."""
    key: CreatedApiKey = await people.ask(
        people.root, CreateApiKey, name=name, permissions=permissions
    )
    return key


def presented(secret: str, kind: CredentialKind = CredentialKind.API_KEY) -> Credential:
    return Credential(kind=kind, sha256=token_hash(secret))


async def who(people: People, secret: str, *kinds: CredentialKind) -> list[Principal | None]:
    """Ask whom a key stands for, in each of the headers it may come in."""
    questions = tuple(
        ResolveCredentials.Question(
            credential=presented(secret, kind), request_id="r", source_address="192.0.2.1"
        )
        for kind in kinds or KINDS
    )
    reply = await people.send(ResolveCredentials(call=call(), questions=questions))
    return list(reply.principals)


async def test_a_key_stands_for_itself_in_either_header(people: People) -> None:
    key = await made(people, "deploy", WRITE)
    assert re.fullmatch(r"cwk_[A-Za-z0-9_-]{43}", key.secret)
    principal = Principal(
        kind=PrincipalKind.API_KEY,
        id=str(key.api_key.id),
        name="deploy",
        capabilities=("projects:read", "projects:write", "keys:read"),
    )
    assert await who(people, key.secret) == [principal] * 2
    reader = await made(people, "watch", READ)
    assert [p and p.capabilities for p in await who(people, reader.secret)] == [
        ("projects:read",)
    ] * 2
    assert await who(people, key.secret + "x") == [None] * 2
    assert await who(people, key.secret, CredentialKind.CERTIFICATE) == [None]


async def test_a_session_is_no_api_key(people: People) -> None:
    assert await who(people, people.root.token, CredentialKind.API_KEY) == [None]


async def test_the_secret_is_shown_once_and_stored_as_a_hash(people: People) -> None:
    key = await made(people)
    page = await people.ask(people.root, ListApiKeys, limit=500)
    assert page == ApiKeyPage(api_keys=(key.api_key,), next_cursor=None)
    stored = await people.tables.values(
        "SELECT row_to_json(k)::text FROM registry.api_key k"
        " UNION ALL SELECT row_to_json(o)::text FROM registry.outbox o"
        " UNION ALL SELECT row_to_json(i)::text FROM registry.idempotency i"
    )
    assert any(token_hash(key.secret) in row for row in stored)
    assert not any(key.secret in row or key.secret[4:] in row for row in stored)


async def test_making_and_deleting_are_told(people: People) -> None:
    key = await made(people, "déploy", WRITE)
    number = str(key.api_key.id)
    record, (subject, event) = await people.last(), await people.last_event()
    assert (record["action"], record["actor"]["id"]) == ("api_key_create", str(people.root.id))
    named = {"type": "api_key", "id": number, "name": "déploy", "organization_id": None}
    assert record["object"] == named
    assert record["detail"] == {"permissions": {"projects": "write", "keys": "read"}}
    told = {
        "api_key_id": key.api_key.id,
        "name": "déploy",
        "projects": "write",
        "keys": "read",
    }
    assert (subject, event) == ("api_key.created", told)
    assert await people.ask(people.root, DeleteApiKey, api_key_id=key.api_key.id) == Done()
    record = await people.last()
    assert (record["action"], record["object"]) == ("api_key_delete", named)
    assert await people.last_event() == ("api_key.deleted", told)


async def test_a_deleted_key_is_nobodys_from_its_reply_on_and_its_id_never_comes_back(
    people: People,
) -> None:
    key = await made(people, "gone")
    await people.ask(people.root, DeleteApiKey, api_key_id=key.api_key.id)
    assert await who(people, key.secret) == [None] * 2
    for unknown in (key.api_key.id, 2**62):
        code = await people.refusal(people.root, DeleteApiKey, api_key_id=unknown)
        assert code is ErrorCode.NOT_FOUND
    page = await people.ask(people.root, ListApiKeys, limit=500)
    assert page.api_keys == ()
    refused = [
        json.loads(entry)
        for entry in await people.tables.values(
            "SELECT entry FROM registry.outbox"
            " WHERE entry::json->>'action' = 'credential_resolve' ORDER BY position"
        )
    ]
    assert {(r["actor"]["kind"], r["actor"]["name"]) for r in refused} == {("api_key", "gone")}
    assert (await made(people, "gone")).api_key.id > key.api_key.id


async def test_only_superusers_handle_keys(people: People) -> None:
    here = await people.organization()
    key = await made(people)
    commands = (
        (CreateApiKey, {"name": "mine", "permissions": WRITE}),
        (ListApiKeys, {"limit": 1}),
        (DeleteApiKey, {"api_key_id": key.api_key.id}),
        (DeleteApiKey, {"api_key_id": 2**62}),
    )
    others = [
        await people.person(Role.ADMIN, organization_id=here.id),
        await people.person(Role.ADMIN),
        await people.person(),
    ]
    for kind, fields in commands:
        for person in others:
            assert await people.refusal(person, kind, **fields) is ErrorCode.FORBIDDEN
        for header in KINDS:
            with_key = kind(call=call(), credential=presented(key.secret, header), **fields)
            assert await people.code(with_key) is ErrorCode.FORBIDDEN
        nobody = kind(call=call(), credential=bearer("made up"), **fields)
        assert await people.code(nobody) is ErrorCode.CREDENTIAL_REFUSED
    page = await people.ask(people.root, ListApiKeys, limit=500)
    assert page.api_keys == (key.api_key,)
    refused = [r for r in await people.recorded("refused") if r["action"] == "api_key_delete"]
    assert refused[-2]["object"]["id"] == str(2**62)


@pytest.mark.parametrize("header", KINDS)
async def test_a_key_may_do_nothing_else_in_the_registry(
    people: People, header: CredentialKind
) -> None:
    key = await made(people, permissions=WRITE)
    credential = presented(key.secret, header)
    changes = UserChanges(role=Role.SUPERUSER)
    for command in (
        CreateUser(call=call(), credential=credential, **people.new()),
        GetUser(call=call(), credential=credential, user_id=None),
        GetUser(call=call(), credential=credential, user_id=people.root.id),
        UpdateUser(call=call(), credential=credential, user_id=None, changes=changes),
        DeleteUser(call=call(), credential=credential, user_id=key.api_key.id),
        ListUsers(call=call(), credential=credential, skip=0, limit=1),
        ListOrganizations(call=call(), credential=credential, skip=0, limit=1),
        EndSession(call=call(), credential=credential),
        GetAuthMode(call=call(), credential=credential),
        GetOwnAgent(call=call(), credential=credential),
    ):
        assert await people.code(command) is ErrorCode.FORBIDDEN, type(command).__name__


async def test_a_repeat_hears_that_the_first_took_effect(people: People) -> None:
    credential = bearer(people.root.token)
    command = CreateApiKey(
        call=keyed("k", credential.sha256), credential=credential, name="once", permissions=READ
    )
    key = await people.send(command)
    assert await people.code(command) is ErrorCode.IDEMPOTENCY_SECRET_SHOWN
    other = command.model_copy(update={"call": keyed("k", credential.sha256, "c" * 64)})
    assert await people.code(other) is ErrorCode.IDEMPOTENCY_KEY_REUSED
    page = await people.ask(people.root, ListApiKeys, limit=500)
    assert page.api_keys == (key.api_key,)
    deletion = DeleteApiKey(
        call=keyed("d", credential.sha256), credential=credential, api_key_id=key.api_key.id
    )
    assert [await people.send(deletion), await people.send(deletion)] == [Done(), Done()]
    assert [r["action"] for r in await people.recorded()].count("api_key_delete") == 1


async def test_of_many_deletions_at_once_one_counts(people: People) -> None:
    key = await made(people)
    commands = [said(people.root, DeleteApiKey, api_key_id=key.api_key.id) for _ in range(20)]
    codes = await asyncio.gather(*(people.code(command) for command in commands))
    assert (codes.count(None), codes.count(ErrorCode.NOT_FOUND)) == (1, 19)


async def test_keys_are_listed_page_by_page(people: People) -> None:
    keys = [(await made(people, f"key {n}")).api_key for n in range(5)]
    await people.ask(people.root, DeleteApiKey, api_key_id=keys.pop(2).id)
    found, cursor = [], None
    while True:
        page = await people.ask(people.root, ListApiKeys, limit=2, cursor=cursor)
        found += page.api_keys
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.api_keys) == 2
    assert found == keys
    with pytest.raises(CertwireError) as refused:
        await people.ask(people.root, ListApiKeys, limit=2, cursor="made up")
    assert refused.value.code is ErrorCode.INVALID_REQUEST


async def test_a_key_outlives_its_superuser_and_nobody_leaves_one_behind(people: People) -> None:
    chief = await people.person(Role.SUPERUSER)
    key = await people.ask(chief, CreateApiKey, name="kept", permissions=READ)
    await people.ask(people.root, DeleteUser, user_id=chief.id)
    assert None not in await who(people, key.secret)
    code = await people.refusal(chief, CreateApiKey, name="late", permissions=WRITE)
    assert code is ErrorCode.CREDENTIAL_REFUSED


@pytest.mark.parametrize("at_once", range(4))
async def test_who_is_demoted_meanwhile_made_one_before_or_none(
    people: People, at_once: int
) -> None:
    """What is made is made before the demotion: the audit log has it first."""
    chief: Person = await people.person(Role.SUPERUSER)
    creations = [
        said(chief, CreateApiKey, name=f"key {n}", permissions=WRITE) for n in range(at_once + 1)
    ]
    demotion = said(people.root, UpdateUser, user_id=chief.id, changes=UserChanges(role=Role.USER))
    codes = await asyncio.gather(*(people.code(command) for command in [*creations, demotion]))
    assert set(codes) <= {None, ErrorCode.FORBIDDEN}
    actions = [r["action"] for r in await people.recorded()]
    assert "api_key_create" not in actions[actions.index("user_update") :]
