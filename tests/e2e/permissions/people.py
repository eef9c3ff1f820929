"""Those who call the fastpki dialect, and what they call about; made over HTTP, by a superuser."""

import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.permissions.table import (
    FLAGGED,
    FLAGS,
    GRANTED,
    GRANTS,
    KEY,
    KEY_IN_ITS_HEADER,
    MEMBERS,
    Row,
)
from tests.support.client import Client, superuser
from tests.support.csr import csr_pem
from tests.support.platform import Platform

API = "/api/v1"
PASSWORD = "correct horse battery"
_addresses = itertools.count(2)


@dataclass
class Stage:
    """The users with their tokens, and what belongs to them."""

    platform: Platform
    superuser_token: str
    tag: str = field(default_factory=lambda: secrets.token_hex(4))
    ids: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)

    @classmethod
    async def prepare(cls, platform: Platform) -> "Stage":
        """Make everybody and everything."""
        async with superuser(platform, address=_address()) as chief:
            stage = cls(platform, chief.headers["Authorization"])
            home, other = [await stage.new_organization(chief) for _ in range(2)]
            stage.names = {"organization_id": str(home), "csr": csr_pem()}
            await stage._make_users(chief, home, other)
            await stage._make_objects(chief)
            await stage._make_fallen(chief, home)
            await stage._make_keys(chief)
            await stage.asked(
                chief, "POST", f"/organizations/{other}/users/{stage.ids['moved away']}"
            )
        return stage

    async def _make_users(self, chief: Client, home: int, other: int) -> None:
        flags = {f"can_{flag}": True for flag in FLAGS}
        for who in MEMBERS:
            flag = next((flag for flag, name in FLAGGED.items() if name == who), None)
            role = "admin" if who == "admin" else "user"
            own = {f"can_{flag}": True} if flag else {}
            await self.join(chief, who, organization_id=home, role=role, **own)
        await self.join(chief, "superuser", role="superuser")
        await self.join(chief, "moved away", organization_id=home)
        await self.join(chief, "other plain", organization_id=other)
        await self.join(chief, "other with flags", organization_id=other, **flags)
        await self.join(chief, "other admin", organization_id=other, role="admin")
        await self.join(chief, "unattached")
        await self.join(chief, "unattached with flags", **flags)
        self.names["user_id"] = self.names["granted_id"] = str(await self.new_user(chief, home))
        self.names["unattached_id"] = str(await self.new_user(chief, None))
        self.names["empty_id"] = str(await self.new_organization(chief))

    async def _make_objects(self, chief: Client) -> None:
        self.names |= await self.new_ca(chief)
        elsewhere = await self.new_ca(chief)
        for grant, who in GRANTED.items():
            await self.grant(chief, self.names["ca_id"], who, grant)
        await self.grant(chief, self.names["ca_id"], "moved away", *GRANTS)
        await self.grant(chief, elsewhere["ca_id"], "granted elsewhere", *GRANTS)

    async def _make_fallen(self, chief: Client, home: int) -> None:
        flags: dict[str, Any] = {f"can_{flag}": True for flag in FLAGS}
        for who in ("logged out", "deactivated", "deleted"):
            await self.join(chief, who, organization_id=home, role="admin", **flags)
        async with self.client("logged out") as leaving:
            await self.asked(leaving, "POST", "/auth/logout")
        user = f"/users/{self.ids['deactivated']}"
        await self.asked(chief, "PATCH", user, {"is_active": False})
        await self.asked(chief, "DELETE", f"/users/{self.ids['deleted']}")

    async def _make_keys(self, chief: Client) -> None:
        permissions = {"projects": "write", "keys": "read"}
        for who in (KEY, KEY_IN_ITS_HEADER):
            body = {"name": who, "permissions": permissions}
            key = (await self.asked(chief, "POST", "/api-keys", body))["key"]
            self.tokens[who] = f"Bearer {key}" if who == KEY else key

    # --- Making one ----------------------------------------------------------------------------

    async def new_organization(self, chief: Client) -> int:
        """Make an organisation."""
        made = await self.asked(chief, "POST", "/organizations/", {"name": self.unique()})
        return int(made["id"])

    async def new_user(self, chief: Client, organization_id: int | None, **others: Any) -> int:  # noqa: ANN401 - any field
        """Make a user."""
        name = self.unique()
        body = {
            "username": name,
            "email": f"{name}@example.com",
            "password": PASSWORD,
            "organization_id": organization_id,
            **others,
        }
        self.names["username"] = name
        return int((await self.asked(chief, "POST", "/users/", body))["id"])

    async def join(
        self,
        chief: Client,
        who: str,
        organization_id: int | None = None,
        **others: Any,  # noqa: ANN401 - any field
    ) -> None:
        """Make a caller."""
        self.ids[who] = await self.new_user(chief, organization_id, **others)
        self.names[who] = self.names["username"]
        self.tokens[who] = await self.token(who)

    async def token(self, who: str) -> str:
        """Log a caller in."""
        form = {"username": self.names[who], "password": PASSWORD}
        async with Client(self.platform, address=_address()) as nobody:
            answer = await nobody.call("POST", f"{API}/auth/token", data=form)
        assert answer.status_code == 200, answer.text
        return f"Bearer {answer.json()['access_token']}"

    async def new_ca(self, chief: Client) -> dict[str, str]:
        """Let `creator` make a CA and a certificate, with a flag that lasts no longer."""
        creator = f"/users/{self.ids['creator']}"
        await self.asked(chief, "PATCH", creator, {"can_create_ca": True})
        async with self.client("creator") as client:
            name = self.unique()
            body = {"name": name, "subject_dn": f"CN={name}", "key_type": "ec"}
            ca = await self.asked(client, "POST", "/cas/", {**body, "allow_leaf_certs": True})
            certificate = await self.new_certificate(client, ca["id"])
        await self.asked(chief, "PATCH", creator, {"can_create_ca": False})
        return {"ca_id": str(ca["id"]), "certificate_id": certificate}

    async def new_certificate(self, client: Client, ca_id: int | str) -> str:
        """Make a certificate."""
        body = {
            "common_name": "www.example.com",
            "subject_dn": "CN=www.example.com",
            "certificate_type": "server",
            "key_type": "ec",
        }
        made = await self.asked(client, "POST", f"/certificates/?ca_id={ca_id}", body)
        return str(made["id"])

    async def grant(self, chief: Client, ca_id: str, who: str, *capabilities: str) -> None:
        """Grant a caller something on a CA."""
        path = f"/cas/{ca_id}/grants/{self.ids[who]}"
        await self.asked(chief, "PUT", path, {"capabilities": capabilities})

    async def for_one_call(self, row: Row, who: str) -> dict[str, str]:
        """Return the names for a call, with new things where it is to change one."""
        names = {**self.names, "unique": self.unique(), "own_id": str(self.ids.get(who, 1))}
        if not (row.changes and who in row.allowed and row.status < 300):
            return names
        path, home = row.path or row.route, int(self.names["organization_id"])
        async with Client(self.platform, Authorization=self.superuser_token) as chief:
            if "{ca_id}" in path and "ca_id=" not in path:
                names["ca_id"] = (await self.new_ca(chief))["ca_id"]
                for capability, name in GRANTED.items():
                    if name == who:
                        await self.grant(chief, names["ca_id"], who, capability)
                target = f"/cas/{names['ca_id']}/grants/{names['granted_id']}"
                if "{granted_id}" in path:
                    await self.asked(chief, "PUT", target, {"capabilities": ["delete_ca"]})
            if "{certificate_id}" in path:
                async with self.client("creator") as client:
                    made = await self.new_certificate(client, names["ca_id"])
                names["certificate_id"] = made
            if "{user_id}" in path:
                names["user_id"] = str(await self.new_user(chief, home))
            if "{unattached_id}" in path:
                names["unattached_id"] = str(await self.new_user(chief, None))
            if "{empty_id}" in path:
                names["empty_id"] = str(await self.new_organization(chief))
        return names

    # --- Calling --------------------------------------------------------------------------------

    def unique(self) -> str:
        """Return a name that nobody has."""
        return f"n-{self.tag}-{next(self._numbers)}"

    @asynccontextmanager
    async def client(self, who: str, token: str | None = None) -> AsyncIterator[Client]:
        """Lend a caller."""
        made_up = {"made-up token": "Bearer made-up"}
        token = token or self.tokens.get(who) or made_up.get(who)
        header = "X-API-Key" if who == KEY_IN_ITS_HEADER else "Authorization"
        headers: dict[str, Any] = {header: token} if token else {}
        async with Client(self.platform, address=_address(), **headers) as client:
            yield client

    async def asked(
        self, client: Client, method: str, path: str, body: object = None
    ) -> dict[str, Any]:
        """Return what is answered to a call that succeeds."""
        answer = await client.call(method, f"{API}{path}", body)
        assert answer.status_code < 300, (method, path, answer.text)
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found


def _address() -> str:
    """Return a loopback address that nobody else calls from: limits go by address."""
    high, low = divmod(next(_addresses), 250)
    return f"127.7.{high}.{low + 2}"
