"""Those who call: how each of them comes to the certificate, the token or the headers they have."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPRequestBuilder

from shared.clock import utc_now
from shared.x509 import fingerprint
from tests.e2e.authorization.table import PLAIN
from tests.support.agents import AGENTS, Agent, enrolled, new_label, with_token
from tests.support.authority import Leaf
from tests.support.client import (
    Client,
    Workload,
    identity_of_the_administrator,
    running,
    superuser,
)
from tests.support.csr import csr_pem
from tests.support.issuing_ca import IssuingCa, self_signed
from tests.support.platform import Platform

PROXY = "edge-1"
"""The label that the platform's setting names."""
CAPABILITY = "system:read"
ROTATE = "/api/certs/mtls/rotate"
HEALTH = "/api/health"
PROJECTS = "/api/v1/projects"
API_KEYS = "/api/v1/api-keys"
USED_FOR = timedelta(seconds=3)
"""How long a certificate is good that is to end."""


@dataclass
class Stage:
    """The platform, its administrator, and what is called about."""

    platform: Platform
    chief: Client
    address: str
    target: Workload
    names: dict[str, str]
    used: set[object] = field(default_factory=set)
    """Connections that were used before their certificate fell."""

    @classmethod
    async def prepare(cls, platform: Platform, chief: Client, address: str) -> "Stage":
        """Make an instance, an agent with a file, a token that is not used yet, and projects."""
        target = await running(chief)
        pending = await with_token(chief)
        label = new_label()
        made = await chief.call("POST", AGENTS, {"label": label})
        assert made.status_code == 200, made.text
        names = {
            "instance_id": target.id,
            "wg_public_key": target.wg_public_key,
            "vpn_ip": target.vpn_ip,
            "label": label,
            "pending_label": pending.label,
            "new_label": new_label(),
            "newer_label": new_label(),
            **await _published(platform, target),
            **await _projects(platform, address),
        }
        return cls(platform, chief, address, target, names)

    def url(self, path: str) -> str:
        """Return where a path of either port is."""
        if path.startswith(PLAIN):
            return f"http://127.0.0.1:{self.platform.http_port}{path.removeprefix(PLAIN)}"
        return path

    def client(self, identity: str | None = None, **headers: str) -> Client:
        """Return a caller with one connection to each port."""
        return Client(self.platform, identity, address=self.address, connections=2, **headers)

    @property
    def admin_pem(self) -> str:
        """Return the administrator's certificate."""
        return (self.platform.bootstrap / "admin.crt").read_text()

    @property
    def admin_certificate(self) -> x509.Certificate:
        """Return the administrator's certificate."""
        return x509.load_pem_x509_certificates(self.admin_pem.encode())[0]


async def _published(platform: Platform, target: Workload) -> dict[str, str]:
    """Return what names the CA of a certificate, and asks about it."""
    ca = (await IssuingCa.of(platform)).certificate
    certificate = x509.load_pem_x509_certificate(target.certificate_pem.encode())
    request = OCSPRequestBuilder().add_certificate(certificate, ca, SHA256()).build()
    slug = await platform.value(
        "SELECT slug FROM issuer.ca WHERE certificate = $1", ca.public_bytes(Encoding.DER)
    )
    asked = base64.b64encode(request.public_bytes(Encoding.DER)).decode()
    return {"slug": slug, "request_base64:path": quote(asked, safe="")}


async def _projects(platform: Platform, address: str) -> dict[str, str]:
    """Return what names a project without a domain, others to be changed, and a key to delete."""
    names = {name: new_label() for name in ("project", "project_with_domain", "project_to_delete")}
    async with superuser(platform, address=address) as root:
        for name in names.values():
            made = await root.call("POST", f"{PROJECTS}/create", {"id": name, "name": name})
            assert made.status_code == 201, made.text
        spare = await new_key(root, "none")
    names |= {"new_project": new_label(), "domain": f"{new_label()}.example.com"}
    return {**names, "key_to_delete": str(spare["id"])}


async def new_key(root: Client, projects: str, keys: str = "none") -> dict[str, Any]:
    """Make an API key."""
    body = {"name": new_label(), "permissions": {"projects": projects, "keys": keys}}
    made = await root.call("POST", API_KEYS, body)
    assert made.status_code == 201, made.text
    shown: dict[str, Any] = made.json()
    return shown


Caller = Callable[[Stage], AbstractAsyncContextManager[Client]]


# --- Nobody, with and without a certificate -----------------------------------------------------


@asynccontextmanager
async def nobody(stage: Stage) -> AsyncIterator[Client]:
    async with stage.client() as client:
        yield client


@asynccontextmanager
async def with_own_ca(stage: Stage) -> AsyncIterator[Client]:
    """Present the administrator's name and serial, signed by oneself."""
    async with stage.client(self_signed(stage.admin_certificate).pem) as client:
        yield client


@asynccontextmanager
async def of_a_namesake(stage: Stage) -> AsyncIterator[Client]:
    """Present all that the administrator's certificate says, signed by another key."""
    certificate = stage.admin_certificate
    ca = (await IssuingCa.of(stage.platform)).namesake()
    leaf = ca.copy(certificate, serial=certificate.serial_number)
    async with stage.client(leaf.pem) as client:
        yield client


@asynccontextmanager
async def the_gateway(stage: Stage) -> AsyncIterator[Client]:
    """Present what the gateway shows itself: it is for servers only."""
    async with stage.client((stage.platform.home / "gateway" / "server.pem").read_text()) as client:
        yield client


@asynccontextmanager
async def unissued(stage: Stage) -> AsyncIterator[Client]:
    """Present what the CA's key has signed, but the issuer knows nothing of."""
    ca = await IssuingCa.of(stage.platform)
    async with stage.client(ca.copy(stage.admin_certificate).pem) as client:
        yield client


@asynccontextmanager
async def expired(stage: Stage) -> AsyncIterator[Client]:
    """Present an administrator's certificate that has ended."""
    ca = await IssuingCa.of(stage.platform)
    leaf = ca.copy(stage.admin_certificate, ends=utc_now() - timedelta(seconds=1))
    async with _in_place_of(stage, ADMIN, stage.admin_pem, leaf), stage.client(leaf.pem) as client:
        yield client


@asynccontextmanager
async def with_made_up_token(stage: Stage) -> AsyncIterator[Client]:
    async with stage.client(Authorization="Bearer made-up") as client:
        yield client


def forger(*, agent: bool) -> Caller:
    """Say what proxies say of their clients, without a certificate."""

    @asynccontextmanager
    async def call(stage: Stage) -> AsyncIterator[Client]:
        about = await _able(stage) if agent else stage.admin_pem
        async with stage.client(None, **forged_headers(about)) as client:
            yield client

    return call


async def _able(stage: Stage) -> str:
    return (await enrolled(stage.chief, None, CAPABILITY)).certificate_pem


def forged_headers(pem: str) -> dict[str, str]:
    """Return what servers and proxies tell the service behind about a client certificate."""
    certificate = x509.load_pem_x509_certificates(pem.encode())[0]
    der = certificate.public_bytes(Encoding.DER)
    text, sha256 = base64.b64encode(der).decode(), fingerprint(der)
    subject, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
    serial, escaped = f"{certificate.serial_number:X}", quote(pem, safe="")
    return {
        "Authorization": "Basic YWRtaW46YWRtaW4=",
        "Client-Cert": f":{text}:",  # RFC 9440
        "Client-Cert-Chain": f":{text}:",
        "Forwarded": "for=127.0.0.1;by=127.0.0.1;host=localhost;proto=https",  # RFC 7239
        "Ssl-Client-Cert": escaped,
        "X-Amzn-Mtls-Clientcert": escaped,
        "X-Amzn-Mtls-Clientcert-Leaf": escaped,
        "X-ARR-ClientCert": text,
        "X-Client-Cert": escaped,
        "X-Client-Dn": subject,
        "X-Client-Verify": "SUCCESS",
        "X-Forwarded-Client-Cert": f'Hash={sha256};Cert="{escaped}";Subject="{subject}"',
        "X-Forwarded-Client-Cert-Info": f'Subject="{subject}"',
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "localhost",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Tls-Client-Cert": text,
        "X-Forwarded-User": "admin",
        "X-Real-Ip": "127.0.0.1",
        "X-Remote-User": "admin",
        "X-Ssl-Cert": escaped,
        "X-SSL-Client-Cert": escaped,
        "X-SSL-Client-Fingerprint": sha256,
        "X-SSL-Client-I-DN": issuer,
        "X-SSL-Client-S-DN": subject,
        "X-SSL-Client-Serial": serial,
        "X-SSL-Client-Verify": "SUCCESS",
        "X-Tls-Client-Cert": escaped,
    }


# --- Those who were somebody --------------------------------------------------------------------


@dataclass
class Holder:
    """Whose certificate falls: it may fall once."""

    identity: str
    agent: Agent | None = None

    @property
    def pem(self) -> str:
        return self.identity[: self.identity.index("-----BEGIN PRIVATE KEY")]


@dataclass(frozen=True)
class Role:
    """How one comes to hold a certificate, and what may become of it.

    `exchange` are the statements that put a certificate (fingerprint $2, end $3) in the place of
    another one (fingerprint $1).
    """

    hold: Callable[[Stage], Awaitable[Holder]]
    revoke: Callable[[Stage, Holder], Awaitable[None]]
    supersede: Callable[[Stage, Holder], Awaitable[None]]
    exchange: tuple[str, ...]


async def _hold_agent(stage: Stage) -> Holder:
    agent = await enrolled(stage.chief, None, CAPABILITY)
    return Holder(agent.identity, agent)


async def _hold_instance(stage: Stage) -> Holder:
    return Holder(stage.target.identity)


async def _hold_admin(stage: Stage) -> Holder:
    return Holder(identity_of_the_administrator(stage.platform))


async def _revoke_agent(stage: Stage, holder: Holder) -> None:
    assert holder.agent
    response = await stage.chief.call("DELETE", f"{AGENTS}/{holder.agent.label}")
    assert response.status_code == 200, response.text


async def _revoke_instance(stage: Stage, _holder: Holder) -> None:
    assert (await stage.chief.revoke(stage.target.id)).status_code == 200


async def _revoke_admin(stage: Stage, _holder: Holder) -> None:
    await stage.platform.succeed("admin", "reset")


async def _supersede_agent(stage: Stage, holder: Holder) -> None:
    assert holder.agent
    new = Agent(holder.agent.label)
    async with stage.client(holder.identity) as old:
        new.takes(await old.call("POST", f"{AGENTS}/renew", {"csr": csr_pem(new.key)}))
    async with stage.client(new.identity) as itself:
        assert (await itself.call("GET", f"{AGENTS}/me")).status_code == 200


async def _supersede_instance(stage: Stage, holder: Holder) -> None:
    async with stage.client(holder.identity) as old:
        stage.target.takes(await old.renew(stage.target))


async def _supersede_admin(stage: Stage, _holder: Holder) -> None:
    assert (await stage.chief.call("POST", ROTATE)).status_code == 200


AGENT = Role(
    _hold_agent,
    _revoke_agent,
    _supersede_agent,
    (
        """UPDATE registry.agent SET fingerprint = $2
        WHERE fingerprint = $1 AND $3::timestamptz > created_at""",
        """UPDATE registry.agent_certificate SET fingerprint = $2, not_after = $3
        WHERE fingerprint = $1""",
    ),
)
INSTANCE = Role(
    _hold_instance,
    _revoke_instance,
    _supersede_instance,
    (
        """UPDATE instance.instance SET current_fingerprint = $2, current_expires_at = $3
        WHERE current_fingerprint = $1""",
        "UPDATE instance.certificate SET fingerprint = $2, expires_at = $3 WHERE fingerprint = $1",
    ),
)
ADMIN = Role(
    _hold_admin,
    _revoke_admin,
    _supersede_admin,
    (
        """UPDATE registry.admin_certificate SET fingerprint = $2, not_after = $3
        WHERE fingerprint = $1""",
    ),
)


def revoked(role: Role, *, since: bool) -> Caller:
    """Call with a certificate that is revoked: on a connection from before, if it is `since`."""
    return _fallen(role, role.revoke, since=since)


def superseded(role: Role) -> Caller:
    """Call with a certificate that another one took the place of."""
    return _fallen(role, role.supersede, since=False)


def _fallen(role: Role, fall: Callable[[Stage, Holder], Awaitable[None]], *, since: bool) -> Caller:
    @asynccontextmanager
    async def call(stage: Stage) -> AsyncIterator[Client]:
        holder = await role.hold(stage)
        async with stage.client(holder.identity) as client:
            if since:
                await _use(stage, client)
            await fall(stage, holder)
            yield client

    return call


def expired_since(role: Role) -> Caller:
    """Call on a connection from before with a certificate that has ended."""

    @asynccontextmanager
    async def call(stage: Stage) -> AsyncIterator[Client]:
        holder = await role.hold(stage)
        [original, *_] = x509.load_pem_x509_certificates(holder.pem.encode())
        ca = await IssuingCa.of(stage.platform)
        leaf = ca.copy(original, ends=utc_now() + USED_FOR)
        async with AsyncExitStack() as exits:
            await exits.enter_async_context(_in_place_of(stage, role, holder.pem, leaf))
            client = await exits.enter_async_context(stage.client(leaf.pem))
            await _use(stage, client)
            ends = leaf.certificate.not_valid_after_utc.timestamp()
            await asyncio.sleep(max(0, ends + 0.1 - time.time()))
            yield client

    return call


async def _use(stage: Stage, client: Client) -> None:
    response = await client.call("GET", HEALTH)
    assert response.status_code == 200, response.text
    stage.used.add(connection_of(response))


def connection_of(response: object) -> object:
    """Return what tells connections of one client apart: the port that they come from."""
    return response.extensions["network_stream"].get_extra_info("client_addr")  # type: ignore[attr-defined]  # the client's own


@asynccontextmanager
async def _in_place_of(stage: Stage, role: Role, pem: str, leaf: Leaf) -> AsyncIterator[None]:
    """Let the platform take a certificate for the one that it has issued."""
    [original, *_] = x509.load_pem_x509_certificates(pem.encode())
    issued = fingerprint(original.public_bytes(Encoding.DER)), original.not_valid_after_utc
    lent = leaf.sha256, leaf.certificate.not_valid_after_utc
    async with stage.platform.superuser() as connection:
        for before, after in ((issued, lent), (lent, issued)):
            for statement in role.exchange:
                assert await connection.execute(statement, before[0], *after) == "UPDATE 1"
            if after is lent:
                yield


# --- Those who are somebody ---------------------------------------------------------------------


def an_agent(*capabilities: str, forges: Callable[[Stage], Awaitable[str]] | None = None) -> Caller:
    """Call as an agent, maybe with headers about somebody else."""

    @asynccontextmanager
    async def call(stage: Stage) -> AsyncIterator[Client]:
        agent = await enrolled(stage.chief, None, *capabilities)
        headers = forged_headers(await forges(stage)) if forges else {}
        async with stage.client(agent.identity, **headers) as client:
            yield client

    return call


async def _the_admin(stage: Stage) -> str:
    return stage.admin_pem


@asynccontextmanager
async def proxy(stage: Stage) -> AsyncIterator[Client]:
    """Call as the agent whose `Client-Cert` header counts, with an able agent's certificate."""
    await stage.chief.call("DELETE", f"{AGENTS}/{PROXY}")
    edge = await enrolled(stage.chief, PROXY)
    async with stage.client(edge.identity, **forged_headers(await _able(stage))) as client:
        yield client


@asynccontextmanager
async def the_instance(stage: Stage) -> AsyncIterator[Client]:
    async with stage.client(stage.target.identity) as client:
        yield client


@asynccontextmanager
async def other_instance(stage: Stage) -> AsyncIterator[Client]:
    async with stage.client((await running(stage.chief)).identity) as client:
        yield client


@asynccontextmanager
async def stopped_instance(stage: Stage) -> AsyncIterator[Client]:
    """Call about itself."""
    await stage.chief.move(stage.target.id, "stopped")
    async with stage.client(stage.target.identity) as client:
        yield client


@asynccontextmanager
async def the_admin(stage: Stage) -> AsyncIterator[Client]:
    async with stage.client(identity_of_the_administrator(stage.platform)) as client:
        yield client


@asynccontextmanager
async def the_superuser(stage: Stage) -> AsyncIterator[Client]:
    async with superuser(stage.platform, address=stage.address, connections=2) as client:
        yield client


def a_user(role: str) -> Caller:
    """Call as a user with a token, who is no superuser."""

    @asynccontextmanager
    async def call(stage: Stage) -> AsyncIterator[Client]:
        login = {"username": new_label(), "password": "correct horse battery"}
        about = {"email": f"{login['username']}@example.com", "role": role}
        async with superuser(stage.platform, address=stage.address) as root:
            made = await root.call("POST", "/api/v1/organizations/", {"name": new_label()})
            about["organization_id"] = made.json()["id"]
            made = await root.call("POST", "/api/v1/users/", {**login, **about})
        assert made.status_code == 201, made.text
        async with stage.client() as nobody:
            given = await nobody.call("POST", "/api/v1/auth/token", data=login)
        token = given.json()["access_token"]
        async with stage.client(Authorization=f"Bearer {token}") as client:
            yield client

    return call


def with_key(projects: str, keys: str = "none", header: str = "X-API-Key") -> Caller:
    """Call with an API key, in one of its headers."""

    @asynccontextmanager
    async def call(stage: Stage) -> AsyncIterator[Client]:
        async with superuser(stage.platform, address=stage.address) as root:
            key = (await new_key(root, projects, keys))["key"]
        value = key if header == "X-API-Key" else f"Bearer {key}"
        async with stage.client(None, **{header: value}) as client:
            yield client

    return call


@asynccontextmanager
async def with_deleted_key(stage: Stage) -> AsyncIterator[Client]:
    """Call with a key that might do everything, until a moment ago."""
    async with superuser(stage.platform, address=stage.address) as root:
        key = await new_key(root, "write", "read")
        async with stage.client(None, **{"X-API-Key": key["key"]}) as client:
            assert (await client.call("GET", PROJECTS)).status_code == 200
            assert (await root.call("DELETE", f"{API_KEYS}/{key['id']}")).status_code == 204
            yield client


@asynccontextmanager
async def with_made_up_key(stage: Stage) -> AsyncIterator[Client]:
    async with stage.client(None, **{"X-API-Key": "cwk_" + "a" * 43}) as client:
        yield client


WHO: dict[str, Caller] = {
    "nobody": nobody,
    "forged headers of the admin": forger(agent=False),
    "forged headers of an agent": forger(agent=True),
    "self-signed": with_own_ca,
    "same-named CA": of_a_namesake,
    "the gateway's own": the_gateway,
    "expired": expired,
    "unissued": unissued,
    "agent": an_agent(),
    "able agent": an_agent(CAPABILITY),
    "agent with forged headers of the admin": an_agent(forges=_the_admin),
    "agent with forged headers of an able one": an_agent(forges=_able),
    "proxy for an able agent": proxy,
    "instance": the_instance,
    "other instance": other_instance,
    "stopped instance": stopped_instance,
    "admin": the_admin,
    "superuser": the_superuser,
    "user": a_user("user"),
    "organisation's administrator": a_user("admin"),
    "key for nothing": with_key("none"),
    "key for private keys alone": with_key("none", "read"),
    "key that reads": with_key("read"),
    "key that reads private keys": with_key("read", "read"),
    "key that writes": with_key("write"),
    "key that may everything": with_key("write", "read"),
    "key that may everything, as a Bearer token": with_key("write", "read", "Authorization"),
    "deleted key": with_deleted_key,
    "made-up token": with_made_up_token,
    "made-up key": with_made_up_key,
}
for _name, _role in {"agent": AGENT, "instance": INSTANCE, "admin": ADMIN}.items():
    WHO[f"expired since {_name}"] = expired_since(_role)
    WHO[f"revoked {_name}"] = revoked(_role, since=False)
    WHO[f"revoked since {_name}"] = revoked(_role, since=True)
    WHO[f"superseded {_name}"] = superseded(_role)
