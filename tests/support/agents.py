"""Agents as they are themselves: their keys never leave them."""

import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.support.client import Client, fingerprint_of, pem_of
from tests.support.csr import Key, csr_pem, new_key

AGENTS = "/api/certs/agent"
ENROLL = "/api/enroll"
TUNNELS_READ = "tunnels:read"


@dataclass
class Agent:
    """An agent that has enrolled."""

    label: str
    key: Key = field(default_factory=new_key, repr=False)
    certificate_pem: str = ""
    token: str = field(default="", repr=False)

    @property
    def identity(self) -> str:
        """Return certificate and key."""
        return self.certificate_pem + pem_of(self.key)

    @property
    def sha256(self) -> str:
        """Return the fingerprint of its certificate."""
        return fingerprint_of(self.certificate_pem)

    def enrolment(self) -> dict[str, str]:
        """Return what it says to enrol."""
        return {"token": self.token, "csr": csr_pem(self.key)}

    def takes(self, response: httpx2.Response) -> None:
        """Take the certificate of an answer as its own."""
        assert response.status_code == 200, (response, response.text)
        self.certificate_pem = response.json()["cert"]


def new_label() -> str:
    """Return a label that nobody has."""
    return f"agent-{secrets.token_hex(5)}"


async def with_token(
    admin: Client, label: str | None = None, *capabilities: str, sites: tuple[str, ...] = ()
) -> Agent:
    """Return an agent that may enrol."""
    agent = Agent(label or new_label())
    body: dict[str, Any] = {"label": agent.label, "allowedSites": sites}
    body["capabilities"] = [TUNNELS_READ, *capabilities]
    response = await admin.call("POST", f"{AGENTS}/enroll", body)
    assert response.status_code == 200, response.text
    agent.token = response.json()["token"]
    return agent


async def enrolled(
    admin: Client, label: str | None = None, *capabilities: str, sites: tuple[str, ...] = ()
) -> Agent:
    """Return an agent that has enrolled."""
    agent = await with_token(admin, label, *capabilities, sites=sites)
    # A public endpoint: who calls is all the same.
    agent.takes(await admin.call("POST", ENROLL, agent.enrolment()))
    return agent
