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
MANY_AGENTS = """
WITH made AS (
    INSERT INTO registry.agent
        (label, capabilities, allowed_sites, enrollment_method, fingerprint, revoked_at)
    SELECT CASE WHEN n % 100 = 0 THEN 'again' ELSE 'agent-' || n END, '{tunnels:read}',
        '{}', 'p12', encode(sha256(n::text::bytea), 'hex'),
        CASE WHEN n % 100 = 0 THEN now() END
    FROM generate_series(1, 9999) AS n
    RETURNING id, fingerprint, revoked_at
), claims AS (
    INSERT INTO registry.claim (id, state, request_id)
    SELECT gen_random_uuid(), 'recorded', fingerprint FROM made
    RETURNING id, request_id
)
INSERT INTO registry.agent_certificate (fingerprint, agent_id, claim_id, serial_hex,
    certificate_pem, not_before, not_after, revoked_at, revocation_reason, revoked_by,
    revocation_request_id, revocation_told)
SELECT fingerprint, made.id, claims.id, to_hex(made.id), '', now(), now() + interval '1 y',
    revoked_at, CASE WHEN revoked_at IS NOT NULL THEN 'superseded' END,
    CASE WHEN revoked_at IS NOT NULL THEN '{}' END,
    CASE WHEN revoked_at IS NOT NULL THEN 'r' END, revoked_at IS NOT NULL
FROM made JOIN claims ON claims.request_id = fingerprint
"""
"""9,999 of them, at once; each hundredth is revoked, and those all had the same label."""


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
