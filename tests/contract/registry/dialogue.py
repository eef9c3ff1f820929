"""What a gateway says to the registry for the administrator and for agents."""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

from contracts.agents import (
    Agent,
    CreateAgent,
    CreatedAgent,
    CreateEnrollmentToken,
    EnrollAgent,
    Enrolled,
    EnrollmentToken,
    GetAuthMode,
    GetOwnAgent,
    ListAgents,
    RenewAgent,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Call, Command, IdempotencyKey
from contracts.principal import Credential, CredentialKind, Principal
from contracts.registry import ResolveCredentials
from services.registry.service import Registry
from shared.broker import Bus
from shared.runtime import Application
from shared.secrets import token_hash
from tests.support.csr import csr_pem
from tests.support.registry import Tables
from tests.support.running import call


def certificate(fingerprint: str) -> Credential:
    """Return a client certificate as it is presented."""
    return Credential(kind=CredentialKind.CERTIFICATE, sha256=fingerprint)


def keyed(key: str, scope: str = "b" * 64, request: str = "a" * 64) -> Call:
    """Return a call with an Idempotency-Key."""
    idempotency = IdempotencyKey(scope=scope, key=key, request=request)
    return call().model_copy(update={"idempotency": idempotency})


@dataclass
class Dialogue:
    """The gateway's side; `admin` is the fingerprint of the administrator's certificate."""

    gateway: Bus
    registry: Registry
    issuer: Application
    tables: Tables
    admin: str
    admin_password: str

    async def send(self, command: Command[Any]) -> Any:  # noqa: ANN401 - each command has its reply
        """Send one command."""
        return await self.gateway.request(command)

    async def code(self, command: Command[Any]) -> ErrorCode | None:
        """Return how a command is refused; None where it is not."""
        try:
            await self.send(command)
        except CertwireError as error:
            return error.code
        return None

    async def as_admin(self, kind: type[Command[Any]], **fields: Any) -> Any:  # noqa: ANN401 - any field of the command
        """Send a command as the administrator."""
        fields = {"call": call(), "credential": certificate(self.admin), **fields}
        return await self.send(kind(**fields))

    async def create(self, label: str = "mac", **fields: Any) -> CreatedAgent:  # noqa: ANN401 - any field of the command
        """Make an agent with a bundle."""
        created: CreatedAgent = await self.as_admin(CreateAgent, label=label, **fields)
        return created

    async def token(self, label: str = "mac", **fields: Any) -> EnrollmentToken:  # noqa: ANN401 - any field of the command
        """Make an enrolment token."""
        token: EnrollmentToken = await self.as_admin(CreateEnrollmentToken, label=label, **fields)
        return token

    def enrolment(self, token: str, csr: str | None = None, key: str | None = None) -> EnrollAgent:
        """Return an enrolment, under an Idempotency-Key where one is given."""
        circumstances = keyed(key, token_hash(token)) if key else call()
        csr = csr_pem() if csr is None else csr
        return EnrollAgent(call=circumstances, token=token, csr_pem=csr)

    async def enrolled(self, label: str = "mac", **fields: Any) -> Enrolled:  # noqa: ANN401 - any field of the token's command
        """Make a token and enrol with it."""
        token = await self.token(label, **fields)
        enrolled: Enrolled = await self.send(self.enrolment(token.token))
        return enrolled

    def renewal(
        self, fingerprint: str, csr: str | None = None, circumstances: Call | None = None
    ) -> RenewAgent:
        """Return a renewal with an agent's certificate."""
        return RenewAgent(
            call=circumstances or call(),
            credential=certificate(fingerprint),
            csr_pem=csr_pem() if csr is None else csr,
        )

    async def renew(self, fingerprint: str, csr: str | None = None) -> str:
        """Renew and return the fingerprint of the new certificate."""
        renewed: Enrolled = await self.send(self.renewal(fingerprint, csr))
        return renewed.certificate.fingerprint

    async def own(self, fingerprint: str) -> Agent:
        """Ask as an agent who it is."""
        agent: Agent = await self.send(
            GetOwnAgent(call=call(), credential=certificate(fingerprint))
        )
        return agent

    async def is_agent(self, fingerprint: str) -> bool:
        """Return whether an agent may still ask with the certificate: that uses it."""
        asked = GetOwnAgent(call=call(), credential=certificate(fingerprint))
        refusal = await self.code(asked)
        assert refusal in {None, ErrorCode.CREDENTIAL_REFUSED}
        return refusal is None

    async def is_admin(self, fingerprint: str) -> bool:
        """Return whether the certificate is the administrator's."""
        asked = GetAuthMode(call=call(), credential=certificate(fingerprint))
        refusal = await self.code(asked)
        assert refusal in {None, ErrorCode.CREDENTIAL_REFUSED}
        return refusal is None

    async def resolve(self, fingerprint: str) -> Principal | None:
        """Ask who a certificate stands for, as the gateway does for other services."""
        question = ResolveCredentials.Question(
            credential=certificate(fingerprint), request_id=secrets.token_hex(8)
        )
        reply = await self.send(ResolveCredentials(call=call(), questions=(question,)))
        principal: Principal | None = reply.principals[0]
        return principal

    async def agents(self) -> list[Agent]:
        """Return all agents."""
        page = await self.as_admin(ListAgents, limit=500)
        return list(page.agents)

    async def fingerprint(self, label: str = "mac") -> str:
        """Return the newest certificate of the label's active agent."""
        [found] = await self.tables.values(
            "SELECT fingerprint FROM registry.agent WHERE label = $1 AND revoked_at IS NULL", label
        )
        return str(found)

    async def accepted(self, label: str = "mac") -> set[str]:
        """Return the certificates that are not revoked, without using one."""
        return set(
            await self.tables.values(
                "SELECT c.fingerprint FROM registry.agent_certificate c"
                " JOIN registry.agent a ON a.id = agent_id"
                " WHERE label = $1 AND c.revoked_at IS NULL",
                label,
            )
        )

    async def actions(self) -> list[str]:
        """Return what the registry recorded as done, in order."""
        return await self.tables.values(
            "SELECT entry::json->>'action' FROM registry.outbox"
            " WHERE entry::json->>'outcome' = 'success' ORDER BY position"
        )

    async def events(self) -> list[str]:
        """Return the registry's events since it was initialised, in order."""
        subjects = await self.tables.values(
            "SELECT event_subject FROM registry.outbox WHERE event IS NOT NULL"
            " AND entry::json->'object'->>'name' <> 'superuser' ORDER BY position"
        )
        return [subject.removeprefix("certwire.events.") for subject in subjects]

    async def issued(self, kind: str = "agent") -> list[tuple[str, str | None]]:
        """Return (fingerprint, revocation reason) of what the issuer signed, in order."""
        rows = await self.tables.run(
            "SELECT fingerprint, revocation_reason FROM issuer.certificate WHERE kind = $1"
            " ORDER BY id",
            kind,
        )
        return [(row["fingerprint"], row["revocation_reason"]) for row in rows]

    async def eventually_revoked(self, *fingerprints: str) -> None:
        """Wait until the issuer knows that the certificates are revoked: ten seconds at most."""
        query = (
            "SELECT count(*) FROM issuer.certificate"
            " WHERE fingerprint = ANY($1::text[]) AND revoked_at IS NOT NULL"
        )
        async with asyncio.timeout(10):
            while await self.tables.values(query, list(fingerprints)) != [len(fingerprints)]:
                await asyncio.sleep(0.05)

    async def let_a_second_certificate_in(self) -> None:
        """Make every certificate old enough to be replaced by a renewal with another key."""
        await self.tables.run(
            "UPDATE registry.agent_certificate SET created_at = created_at - interval '3 s'"
        )

    async def everything_stored(self) -> str:
        """Return all that the registry and the issuer have in their tables, as text."""
        tables = await self.tables.values(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname IN ('registry', 'issuer')"
        )
        rows = [
            row
            for table in tables
            for row in await self.tables.values(f"SELECT row_to_json(t)::text FROM {table} t")  # noqa: S608 - a name from the catalogue
        ]
        return "\n".join(rows)
