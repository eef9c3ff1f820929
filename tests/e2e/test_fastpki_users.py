"""Users, organisations and their sessions, over HTTPS: the fastpki dialect with its own tables."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from contracts.api_keys import CreateApiKey, DeleteApiKey, ListApiKeys
from contracts.messages import Command
from contracts.users import (
    AddMember,
    CreateOrganization,
    CreateUser,
    DeleteOrganization,
    DeleteUser,
    EndAllSessions,
    EndSession,
    GetOrganization,
    GetUser,
    ListMembers,
    ListOrganizations,
    ListUsers,
    RemoveMember,
    UpdateOrganization,
    UpdateUser,
)
from services.registry.domain.users import CHANGES, MAY, Standing
from tests.e2e.conversations import Refused
from tests.support.client import Client
from tests.support.platform import Platform

AUTH, USERS, ORGANIZATIONS = "/api/v1/auth", "/api/v1/users", "/api/v1/organizations"
PASSWORD = "correct horse"
OF_API_KEYS = {CreateApiKey, ListApiKeys, DeleteApiKey}
"""They are of another dialect: `authorization/rows_project.py` has their rows."""
FLAGS = [field for field in CHANGES if field.startswith("can_")]
_numbers = itertools.count(1)


@dataclass
class Session:
    """Somebody who is logged in."""

    access: str
    refresh: str
    user: dict[str, Any] = field(default_factory=dict)


@dataclass
class Desk:
    """Calls as whoever; each login comes from an address of its own, for they are limited."""

    platform: Platform
    client: Client
    root: Session

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        who: Session | str | None = None,
        **options: Any,  # noqa: ANN401 - the client's own
    ) -> httpx2.Response:
        """Send a request with a token."""
        token = who.access if isinstance(who, Session) else who
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        headers |= options.pop("headers", {})
        return await self.client.call(method, path, body, headers=headers, **options)

    async def rooted(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - any JSON
        """Let the superuser do what has to succeed."""
        response = await self.call(method, path, body, self.root)
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def user(self, **fields: object) -> dict[str, Any]:
        """Make a user."""
        made: dict[str, Any] = await self.rooted("POST", f"{USERS}/", new_user(**fields))
        return made

    async def person(self, **fields: object) -> Session:
        """Make a user, who logs in."""
        user = await self.user(**fields)
        return await logged_in(self.platform, user["username"], user=user)

    async def organization(self) -> int:
        """Make an organisation."""
        body = {"name": f"Organisation {next(_numbers)}"}
        made: int = (await self.rooted("POST", f"{ORGANIZATIONS}/", body))["id"]
        return made


def new_user(**fields: object) -> dict[str, object]:
    """Return the body that makes a user."""
    name = f"user-{next(_numbers)}"
    return {
        "username": name,
        "email": f"{name}@example.com",
        "password": PASSWORD,
        **fields,
    }


async def logged_in(
    platform: Platform,
    username: str,
    password: str = PASSWORD,
    user: dict[str, Any] | None = None,
) -> Session:
    """Exchange a password for a session."""
    high, low = divmod(next(_numbers), 250)
    form = {"username": username, "password": password}
    async with Client(platform, address=f"127.7.{high}.{low + 2}", connections=1) as client:
        response = await client.call("POST", f"{AUTH}/token", data=form)
    assert response.status_code == 200, response.text
    token = response.json()
    return Session(token["access_token"], token["refresh_token"], user or {})


@pytest.fixture
async def desk(platform: Platform) -> AsyncIterator[Desk]:
    login = json.loads((platform.bootstrap / "superuser.json").read_text())
    root = await logged_in(platform, **login)
    async with Client(platform) as client:
        desk = Desk(platform, client, root)
        root.user = (await desk.call("GET", f"{USERS}/me", who=root)).json()
        yield desk


# --- Who may call what: the table of the registry, route by route --------------------------------


@dataclass
class Scene:
    """An organisation with members, and what is called about."""

    desk: Desk
    here: int
    elsewhere: int
    member: int
    free: int

    async def fresh_member(self) -> str:
        return f"{USERS}/{(await self.desk.user(organization_id=self.here))['id']}"

    async def fresh_organization(self) -> str:
        return f"{ORGANIZATIONS}/{await self.desk.organization()}"

    async def joined(self) -> str:
        path = f"{ORGANIZATIONS}/{self.here}/users/{self.free}"
        await self.desk.rooted("POST", path)
        return path

    async def unjoined(self) -> str:
        path = await self.joined()
        await self.desk.rooted("DELETE", path)
        return path


Where = Callable[[Scene], Awaitable[str]]


@dataclass
class Row:
    """A route, the command that it becomes, and how the caller stands to what it is about."""

    method: str
    kind: type[Command[Any]]
    path: str | Where
    success: int = 200
    body: Callable[[Scene], dict[str, object]] | None = None
    changes: tuple[str, ...] = ()
    about: str = "here"
    registers: bool = False


PATCHES: tuple[dict[str, object], ...] = (
    {"email": "member@example.com"},
    {"password": "another horse"},
    *(dict[str, object]({flag: True}) for flag in FLAGS),
    {"role": "user"},
    {"is_active": True},
    {"email": "member@example.com", "role": "superuser"},
)
ROWS = (
    Row(
        "POST",
        CreateUser,
        f"{USERS}/",
        201,
        lambda scene: new_user(organization_id=scene.here),
        registers=True,
    ),
    Row("GET", ListUsers, f"{USERS}/", about="nothing"),
    Row("GET", GetUser, f"{USERS}/me", about="oneself"),
    Row("GET", GetUser, f"{USERS}/{{member}}"),
    *(
        Row(
            "PATCH",
            UpdateUser,
            f"{USERS}/{{member}}",
            body=lambda _, changes=changes: changes,  # type: ignore[misc]  # bound here
            changes=tuple(changes),
        )
        for changes in PATCHES
    ),
    Row("DELETE", DeleteUser, Scene.fresh_member, 204),
    Row(
        "POST",
        CreateOrganization,
        f"{ORGANIZATIONS}/",
        201,
        lambda _: {"name": f"Organisation {next(_numbers)}"},
        about="nothing",
    ),
    Row("GET", ListOrganizations, f"{ORGANIZATIONS}/", about="nothing"),
    Row("GET", GetOrganization, f"{ORGANIZATIONS}/{{here}}"),
    Row("PUT", UpdateOrganization, f"{ORGANIZATIONS}/{{here}}", body=lambda _: {}),
    Row("PATCH", UpdateOrganization, f"{ORGANIZATIONS}/{{here}}", body=lambda _: {}),
    Row("DELETE", DeleteOrganization, Scene.fresh_organization, 204, about="nothing"),
    Row("GET", ListMembers, f"{ORGANIZATIONS}/{{here}}/users"),
    Row("POST", AddMember, Scene.unjoined),
    Row("DELETE", RemoveMember, Scene.joined),
    Row("POST", EndSession, f"{AUTH}/logout", 204, about="oneself"),
    Row("POST", EndAllSessions, f"{AUTH}/invalidate", 204, about="oneself"),
)


@dataclass
class Caller:
    """Whose token it is; without a standing it is nobody's."""

    token: str | None
    here: Standing | None = None
    anywhere: Standing | None = None

    def expected(self, row: Row) -> int:
        """Return what the tables say."""
        if self.here is None or self.anywhere is None:
            return 403 if row.registers and self.token is None else 401
        standing = {"here": self.here, "nothing": self.anywhere, "oneself": Standing.ONESELF}[
            row.about
        ]
        may = standing in MAY[row.kind] and all(standing in CHANGES[c] for c in row.changes)
        return row.success if may else 403


async def callers(scene: Scene) -> dict[str, Caller]:
    """Return those of the ruling, and those who are nobody any more."""
    desk = scene.desk
    member, stranger = Standing.MEMBER, Standing.STRANGER
    here: dict[str, object] = {"organization_id": scene.here}
    deactivated, logged_out, spent = [await desk.person(**here) for _ in range(3)]
    await desk.rooted("PATCH", f"{USERS}/{deactivated.user['id']}", {"is_active": False})
    assert (await desk.call("POST", f"{AUTH}/logout", who=logged_out)).status_code == 204
    body = {"refresh_token": spent.refresh}
    assert (await desk.call("POST", f"{AUTH}/refresh", body)).status_code == 200
    people: dict[str, tuple[dict[str, object], Standing]] = {
        "member": (here, member),
        **{flag: ({**here, flag: True}, member) for flag in FLAGS},
        "admin": ({**here, "role": "admin"}, Standing.ADMIN),
        "admin elsewhere": ({"role": "admin", "organization_id": scene.elsewhere}, stranger),
        "member elsewhere": ({"organization_id": scene.elsewhere}, stranger),
        "admin of nothing": ({"role": "admin"}, stranger),
        "user of nothing": (dict.fromkeys(FLAGS, True), stranger),
        "superuser": ({"role": "superuser"}, Standing.SUPERUSER),
    }
    found = {
        "nobody": Caller(None),
        "made-up token": Caller("x" * 43),
        "deactivated": Caller(deactivated.access),
        "logged out": Caller(logged_out.access),
        "spent refresh token": Caller(spent.refresh),
    }
    for name, (fields, standing) in people.items():
        session = await desk.person(**fields)
        anywhere = standing if standing is Standing.SUPERUSER else stranger
        found[name] = Caller(session.access, standing, anywhere)
    return found


async def test_everybody_may_do_what_the_table_says(desk: Desk) -> None:
    here, elsewhere = await desk.organization(), await desk.organization()
    member = await desk.user(organization_id=here)
    scene = Scene(desk, here, elsewhere, member["id"], (await desk.user())["id"])
    everybody = await callers(scene)
    found, expected = {}, {}
    for row in ROWS:
        for name, caller in everybody.items():
            path = row.path if isinstance(row.path, str) else await row.path(scene)
            path = path.format(member=scene.member, here=scene.here)
            body = row.body(scene) if row.body else None
            token = caller.token
            if row.kind in {EndSession, EndAllSessions} and caller.here is not None:
                token = (await desk.person()).access  # who calls is nobody afterwards
            response = await desk.call(row.method, path, body, token)
            cell = f"{row.method} {path} {body if row.changes else ''} {name}"
            found[cell], expected[cell] = response.status_code, caller.expected(row)
            if response.status_code == 401:
                assert response.headers["www-authenticate"] == "Bearer"
    assert found == expected
    assert set(MAY) - OF_API_KEYS == {row.kind for row in ROWS}


# --- Sessions -----------------------------------------------------------------------------------


async def is_in(desk: Desk, token: str) -> bool:
    return (await desk.call("GET", f"{USERS}/me", who=token)).status_code == 200


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_refresh_token_counts_once(desk: Desk, slash: str) -> None:
    ann = await desk.person()
    answer = await desk.call("POST", f"{AUTH}/refresh{slash}", {"refresh_token": ann.refresh})
    assert answer.status_code == 200
    token = answer.json()
    assert token.keys() == {"access_token", "token_type", "refresh_token", "expires_in"}
    assert answer.headers["cache-control"] == "no-store"
    assert await is_in(desk, token["access_token"])
    for spent in (ann.refresh, token["refresh_token"], "made up"):
        refused = await desk.call("POST", f"{AUTH}/refresh{slash}", {"refresh_token": spent})
        assert refused == Refused(401, "Invalid or expired refresh token")
        assert refused.headers["www-authenticate"] == "Bearer"
    assert not await is_in(desk, ann.access)
    assert not await is_in(desk, token["access_token"]), "the family ends with a second use"


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_logout_ends_a_session_and_an_invalidation_all(desk: Desk, slash: str) -> None:
    ann = await desk.person()
    others = [await logged_in(desk.platform, ann.user["username"]) for _ in range(3)]
    answer = await desk.call("POST", f"{AUTH}/logout{slash}", who=ann)
    assert (answer.status_code, answer.content) == (204, b"")
    assert not await is_in(desk, ann.access)
    body = {"refresh_token": others[1].refresh}
    assert (await desk.call("POST", f"{AUTH}/logout", body, others[0])).status_code == 204
    assert [await is_in(desk, other.access) for other in others] == [False, False, True]
    foreign = await desk.call(
        "POST", f"{AUTH}/logout", {"refresh_token": desk.root.refresh}, others[2]
    )
    assert foreign == Refused(403, "Refresh token does not belong to current user")
    assert (await desk.call("POST", f"{AUTH}/invalidate{slash}", who=others[2])).status_code == 204
    assert not await is_in(desk, others[2].access)
    assert await is_in(desk, desk.root.access)


# --- Users --------------------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_user_as_clients_see_it(desk: Desk, slash: str) -> None:
    here = await desk.organization()
    body = new_user(organization_id=here, can_create_cert=True)
    answer = await desk.call("POST", f"{USERS}{slash}", body, desk.root)
    assert answer.status_code == 201
    user = answer.json()
    assert {name: user[name] for name in user.keys() - {"id", "created_at", "updated_at"}} == {
        "username": body["username"],
        "email": body["email"],
        "role": "user",
        "organization_id": here,
        "is_active": True,
        **dict.fromkeys(FLAGS, False),
        "can_create_cert": True,
    }
    assert isinstance(user["id"], int)
    path = f"{USERS}/{user['id']}{slash}"
    assert await desk.rooted("GET", path) == user
    ann = await logged_in(desk.platform, user["username"])
    assert (await desk.call("GET", f"{USERS}/me{slash}", who=ann)).json() == user
    changed = await desk.call("PATCH", f"{USERS}/me{slash}", {"email": "x" + user["email"]}, ann)
    assert changed.json()["email"] == "x" + user["email"]
    page = (await desk.call("GET", f"{USERS}{slash}?skip=1&limit=1000", who=desk.root)).json()
    assert changed.json() in page
    assert [one["id"] for one in page] == sorted(one["id"] for one in page)
    answer = await desk.call("DELETE", path, who=desk.root)
    assert (answer.status_code, answer.content) == (204, b"")
    assert await desk.call("GET", path, who=desk.root) == Refused(404, "User not found")
    assert not await is_in(desk, ann.access)


async def test_what_is_taken_is_400(desk: Desk) -> None:
    body = new_user()
    await desk.rooted("POST", f"{USERS}/", body)
    again = await desk.call("POST", f"{USERS}/", body, desk.root)
    assert again == Refused(400, "Username already registered")
    again = await desk.call("POST", f"{USERS}/", {**new_user(), "email": body["email"]}, desk.root)
    assert again == Refused(400, "Email already registered")
    itself = f"{USERS}/{desk.root.user['id']}"
    refused = await desk.call("DELETE", itself, who=desk.root)
    assert refused == Refused(400, "Superusers cannot delete themselves")


async def test_nobody_registers_where_there_is_somebody(desk: Desk) -> None:
    answers = await asyncio.gather(
        *(desk.call("POST", f"{USERS}/", new_user(role="superuser")) for _ in range(20))
    )
    for answer in answers:
        assert answer == Refused(403, "Unauthenticated registration is disabled")


async def test_a_new_password_ends_every_session_at_once(desk: Desk) -> None:
    ann = await desk.person()
    answer = await desk.call("PATCH", f"{USERS}/me", {"password": "another horse"}, ann)
    assert answer.status_code == 200
    assert not await is_in(desk, ann.access)
    refused = await desk.call("POST", f"{AUTH}/refresh", {"refresh_token": ann.refresh})
    assert refused.status_code == 401
    again = await logged_in(desk.platform, ann.user["username"], "another horse")
    assert await is_in(desk, again.access)
    kept = await desk.platform.rows("SELECT entry FROM registry.outbox")
    assert "another horse" not in str(kept)


# --- Organisations ------------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
async def test_an_organisation_as_clients_see_it(desk: Desk, slash: str) -> None:
    name = f"Zoë & Söhne {next(_numbers)}"
    body = {"name": name, "description": "one"}
    made = await desk.call("POST", f"{ORGANIZATIONS}{slash}", body, desk.root)
    assert made.status_code == 201
    organization = made.json()
    assert organization.keys() == {"id", "name", "description", "created_at", "updated_at"}
    assert await desk.call("POST", f"{ORGANIZATIONS}/", body, desk.root) == Refused(
        400, "Organization with this name already exists"
    )
    path = f"{ORGANIZATIONS}/{organization['id']}"
    assert await desk.rooted("GET", f"{path}{slash}") == organization
    changed = await desk.rooted("PUT", f"{path}{slash}", {"description": "two"})
    assert (changed["name"], changed["description"]) == (name, "two")
    ann = await desk.person()
    member = f"{path}/users/{ann.user['id']}{slash}"
    assert (await desk.rooted("POST", member))["organization_id"] == organization["id"]
    assert [user["id"] for user in await desk.rooted("GET", f"{path}/users{slash}")] == [
        ann.user["id"]
    ]
    mine = (await desk.call("GET", f"{ORGANIZATIONS}{slash}", who=ann)).json()
    assert mine == [changed]
    assert await desk.call("DELETE", f"{path}{slash}", who=desk.root) == Refused(
        400, "Cannot delete organization with users. Remove all users first."
    )
    removed = await desk.call("DELETE", member, who=desk.root)
    assert (removed.status_code, removed.json()["organization_id"]) == (200, None)
    assert (await desk.call("DELETE", f"{path}{slash}", who=desk.root)).status_code == 204
    assert await desk.call("GET", path, who=desk.root) == Refused(404, "Organization not found")


async def test_it_is_on_the_audit_log_at_once(desk: Desk) -> None:
    here = await desk.organization()
    ann = await desk.person()
    about = {"organization": here, "user": ann.user["id"]}
    await desk.rooted("PATCH", f"{USERS}/{ann.user['id']}", {"can_create_ca": True})
    await desk.rooted("POST", f"{ORGANIZATIONS}/{here}/users/{ann.user['id']}")
    await desk.rooted("DELETE", f"{ORGANIZATIONS}/{here}/users/{ann.user['id']}")
    await desk.rooted("DELETE", f"{ORGANIZATIONS}/{here}")
    await desk.rooted("DELETE", f"{USERS}/{ann.user['id']}")
    for kind, actions in (
        ("organization", ["org_delete", "org_remove_user", "org_add_user", "org_create"]),
        ("user", ["user_delete", "user_update", "login_success", "user_create"]),
    ):
        query = f"resource_type={kind}&resource_id={about[kind]}"
        rows = await desk.rooted("GET", f"/api/v1/audit-logs/?{query}")
        assert [row["action"] for row in rows] == actions


# --- What clients should not send ---------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [
        *("0", "-1", "1.0", "1_0", "+1", "01", "%201", "%D9%A1", "%EF%BC%91", "x", "%00", "1%00"),
        *(str(2**63), "9" * 5000),
    ],
)
async def test_what_is_no_id_is_refused(desk: Desk, number: str) -> None:
    for path in (
        f"{USERS}/{number}",
        f"{ORGANIZATIONS}/{number}",
        f"{ORGANIZATIONS}/{number}/users",
        f"{ORGANIZATIONS}/1/users/{number}",
    ):
        method = "DELETE" if "/1/users" in path else "GET"
        response = await desk.call(method, path, who=desk.root)
        assert response.status_code in {404, 422}, (path, response.text)


async def test_an_id_as_large_as_can_be_is_nobodys(desk: Desk) -> None:
    assert (await desk.call("GET", f"{USERS}/{2**63 - 1}", who=desk.root)).status_code == 404
    body = new_user(organization_id=2**63 - 1)
    assert (await desk.call("POST", f"{USERS}/", body, desk.root)).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"username": ""},
        {"username": "a\0b"},
        {"username": "a b"},
        {"username": "аdmin"},  # noqa: RUF001 - a Cyrillic a
        {"username": "a\u202eb"},
        {"username": "x" * 256},
        {"username": None},
        {"username": ["x"]},
        {"email": ""},
        {"email": "x"},
        {"email": "a@b\n"},
        {"email": "a\0@example.com"},
        {"email": f"{'x' * 250}@example.com"},
        {"password": "1234567"},
        {"password": "x" * 1025},
        {"password": None},
        {"role": "root"},
        {"role": None},
        {"organization_id": 0},
        {"organization_id": True},
        {"organization_id": "1"},
        {"organization_id": 1.5},
        {"organization_id": 2**63},
        {"organization_id": 10**400},
        {"can_create_ca": "yes"},
        {"can_create_ca": 1},
        {"is_active": None},
    ],
)
async def test_what_is_no_user_is_422(desk: Desk, change: dict[str, object]) -> None:
    response = await desk.call("POST", f"{USERS}/", new_user(**change), desk.root)
    assert response.status_code == 422, response.text
    assert set(response.json()["detail"][0]) == {"loc", "msg", "type"}
    assert PASSWORD not in response.text


@pytest.mark.parametrize("name", ["", " ", "a\0b", "a\nb", " a", "x" * 256, None, 1])
async def test_what_is_no_organisation_is_422(desk: Desk, name: object) -> None:
    body = {"name": name}
    response = await desk.call("POST", f"{ORGANIZATIONS}/", body, desk.root)
    assert response.status_code == 422, response.text
    body = {"name": "x", "description": "a\0b"}
    assert (await desk.call("POST", f"{ORGANIZATIONS}/", body, desk.root)).status_code == 422


async def test_a_name_twice_in_a_body_is_422(desk: Desk) -> None:
    ann = await desk.person()
    content = b'{"email": "a@example.com", "role": "user", "role": "superuser"}'
    for who in (desk.root, ann):
        response = await desk.call(
            "PATCH",
            f"{USERS}/{ann.user['id']}",
            who=who,
            content=content,
            headers={"Content-Type": "application/json"},
        )
        assert response.status_code == 422


async def test_a_body_is_looked_at_before_what_it_is_about(desk: Desk) -> None:
    path = f"{USERS}/{2**62}"
    assert (await desk.call("PATCH", path, {"role": "root"}, desk.root)).status_code == 422
    assert (await desk.call("PATCH", path, {"role": "user"}, desk.root)).status_code == 404


@pytest.mark.parametrize("query", ["skip=-1", f"skip={2**63}", "limit=0", "limit=1001", "limit=x"])
async def test_a_page_has_bounds(desk: Desk, query: str) -> None:
    for path in (USERS, ORGANIZATIONS, f"{ORGANIZATIONS}/1/users"):
        assert (await desk.call("GET", f"{path}/?{query}", who=desk.root)).status_code == 422


@pytest.mark.parametrize("header", ["Bearer", "Bearer a b", "Bearer é", "bearer x, bearer y"])
async def test_a_token_that_is_none_is_401(desk: Desk, header: str) -> None:
    headers: Any = {b"Authorization": header.encode("latin-1")}
    for method, path, body in (
        ("GET", f"{USERS}/me", None),
        ("POST", f"{USERS}/", new_user()),
        ("POST", f"{AUTH}/logout", {}),
    ):
        response = await desk.client.call(method, path, body, headers=headers)
        assert response.status_code == 401, response.text
