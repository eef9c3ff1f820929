"""Those who call: how each of them comes to the certificate, the token or the headers they have."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
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
        """Make an instance, an agent with a file, and a token that is not used yet."""
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
    "made-up token": with_made_up_token,
}
for _name, _role in {"agent": AGENT, "instance": INSTANCE, "admin": ADMIN}.items():
    WHO[f"expired since {_name}"] = expired_since(_role)
    WHO[f"revoked {_name}"] = revoked(_role, since=False)
    WHO[f"revoked since {_name}"] = revoked(_role, since=True)
    WHO[f"superseded {_name}"] = superseded(_role)
