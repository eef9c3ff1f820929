"""Crashes between the steps: the claim is voided, nothing is lost, and the next try succeeds."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from contracts.agents import (
    CreateAgent,
    CreateEnrollmentToken,
    EnrollAgent,
    EnrollmentToken,
    RenewAgent,
    RotateAdmin,
    UpgradeAdmin,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import (
    GenerateAdminBundle,
    GenerateAgentBundle,
    GetPlatformCa,
    SignAdminCertificate,
    SignAgentCertificate,
    VoidRegistryClaims,
)
from contracts.messages import Command
from contracts.principal import Credential, CredentialKind, PrincipalKind
from services.registry.handlers.administrator import rotate_admin, upgrade_admin
from services.registry.handlers.agents import create_agent
from services.registry.handlers.enrollment import create_enrollment_token, enroll_agent
from services.registry.handlers.renewal import renew_agent
from services.registry.service import Registry
from services.registry.sweeper import sweep
from tests.support.csr import csr_pem
from tests.support.registry import Crash, StandInIssuer, Tables, a_registry, initialised, who
from tests.support.running import call
from tests.support.servers import Place, PostgresServer

AGE = "UPDATE registry.claim SET created_at = created_at - interval '31 s' WHERE state = 'pending'"
PENDING = "SELECT id FROM registry.claim WHERE state = 'pending'"
VOIDED = "SELECT id FROM registry.claim WHERE state = 'voided'"
CERTIFICATES = """
SELECT fingerprint FROM registry.admin_certificate UNION ALL
SELECT fingerprint FROM registry.agent_certificate
"""


@pytest.fixture
def tables(postgres: PostgresServer, database_url: str) -> Tables:
    return Tables(postgres, database_url)


def certificate(fingerprint: str) -> Credential:
    return Credential(kind=CredentialKind.CERTIFICATE, sha256=fingerprint)


@dataclass(frozen=True)
class Case:
    """A command that has a certificate made; `last` is the last that it asks of the issuer."""

    handler: Callable[[Any, Registry], Awaitable[Any]]
    make: Callable[[Registry, str], Awaitable[Command[Any]]]
    signs: type[Command[Any]]
    last: type[Command[Any]]


async def a_creation(_registry: Registry, admin: str) -> Command[Any]:
    return CreateAgent(call=call(), credential=certificate(admin), label="mac")


async def a_rotation(_registry: Registry, admin: str) -> Command[Any]:
    return RotateAdmin(call=call(), credential=certificate(admin))


async def an_upgrade(_registry: Registry, admin: str) -> Command[Any]:
    return UpgradeAdmin(call=call(), credential=certificate(admin), csr_pem=csr_pem())


async def a_token(registry: Registry, admin: str) -> EnrollmentToken:
    return await create_enrollment_token(
        CreateEnrollmentToken(call=call(), credential=certificate(admin), label="mac"), registry
    )


async def an_enrolment(registry: Registry, admin: str) -> Command[Any]:
    token = await a_token(registry, admin)
    return EnrollAgent(call=call(), token=token.token, csr_pem=csr_pem())


async def a_renewal(registry: Registry, admin: str) -> Command[Any]:
    token = await a_token(registry, admin)
    enrolled = await enroll_agent(
        EnrollAgent(call=call(), token=token.token, csr_pem=csr_pem()), registry
    )
    presented = certificate(enrolled.certificate.fingerprint)
    return RenewAgent(call=call(), credential=presented, csr_pem=csr_pem())


CASES = [
    Case(create_agent, a_creation, GenerateAgentBundle, GenerateAgentBundle),
    Case(rotate_admin, a_rotation, GenerateAdminBundle, GenerateAdminBundle),
    Case(upgrade_admin, an_upgrade, SignAdminCertificate, GetPlatformCa),
    Case(enroll_agent, an_enrolment, SignAgentCertificate, GetPlatformCa),
    Case(renew_agent, a_renewal, SignAgentCertificate, GetPlatformCa),
]
NAMES = [case.handler.__name__ for case in CASES]


def fresh(command: Command[Any]) -> Command[Any]:
    """Return the same request, sent again now."""
    return command.model_copy(update={"call": call()})


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@pytest.mark.parametrize("point", ["before signing", "after signing", "before recording"])
async def test_a_crash_leaves_nothing_but_a_claim_to_void(
    place: Place, tables: Tables, case: Case, point: str
) -> None:
    issuer = StandInIssuer()
    async with a_registry(place, issuer) as registry:
        first = await initialised(registry)
        admin = first.admin.certificate.fingerprint
        command = await case.make(registry, admin)
        before = await tables.values(CERTIFICATES)
        if point == "before signing":
            issuer.crash_before = case.signs
        else:
            issuer.crash_after = case.signs if point == "after signing" else case.last
        with pytest.raises(Crash):
            await case.handler(command, registry)
        issuer.crash_before = issuer.crash_after = None
        assert await tables.values(CERTIFICATES) == before
        [claim_id] = await tables.values(PENDING)
        assert await who(registry, admin) == [PrincipalKind.ADMIN]
        await sweep(registry)
        assert issuer.voided == []
        await tables.run(AGE)
        await sweep(registry)
        await sweep(registry)
        assert [told.claim_ids for told in issuer.voided] == [(claim_id,)]
        await case.handler(fresh(command), registry)
        assert len(await tables.values(CERTIFICATES)) == len(before) + 1
        assert await tables.values(VOIDED) == [claim_id]


@pytest.mark.parametrize("case", CASES, ids=NAMES)
async def test_a_claim_that_was_voided_while_the_issuer_signed_records_nothing(
    place: Place, tables: Tables, case: Case
) -> None:
    class Slow(StandInIssuer):
        slow = False

        async def request(self, command: Command[Any]) -> Any:  # noqa: ANN401 - as it came
            reply = await super().request(command)
            if self.slow and type(command) is case.signs:
                await tables.run(
                    "UPDATE registry.claim SET state = 'voided' WHERE state = 'pending'"
                )
            return reply

    issuer = Slow()
    async with a_registry(place, issuer) as registry:
        first = await initialised(registry)
        command = await case.make(registry, first.admin.certificate.fingerprint)
        before = await tables.values(CERTIFICATES)
        issuer.slow = True
        with pytest.raises(CertwireError) as voided:
            await case.handler(command, registry)
        assert voided.value.code is ErrorCode.CLAIM_VOIDED
        assert await tables.values(CERTIFICATES) == before
        issuer.slow = False
        await case.handler(fresh(command), registry)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
async def test_what_the_issuer_refuses_is_voided_at_once(
    place: Place, tables: Tables, case: Case
) -> None:
    class Refusing(StandInIssuer):
        refuses = False

        async def request(self, command: Command[Any]) -> Any:  # noqa: ANN401 - as it came
            if self.refuses and type(command) is case.signs:
                raise CertwireError(ErrorCode.CA_CANNOT_SIGN)
            return await super().request(command)

    issuer = Refusing()
    async with a_registry(place, issuer) as registry:
        first = await initialised(registry)
        command = await case.make(registry, first.admin.certificate.fingerprint)
        issuer.refuses = True
        with pytest.raises(CertwireError) as refused:
            await case.handler(command, registry)
        assert refused.value.code is ErrorCode.CA_CANNOT_SIGN
        assert await tables.values(PENDING) == []
        assert len(await tables.values(VOIDED)) == 1
        issuer.refuses = False
        await case.handler(fresh(command), registry)


async def test_an_enrolment_waits_for_nobody_longer_than_its_caller_does(
    place: Place, tables: Tables
) -> None:
    """A repeat says that the first is not done; a new agent of the label, that there is another."""
    issuer = StandInIssuer()
    async with a_registry(place, issuer) as registry:
        first = await initialised(registry)
        admin = first.admin.certificate.fingerprint
        command = await an_enrolment(registry, admin)
        issuer.crash_before = SignAgentCertificate
        with pytest.raises(Crash):
            await enroll_agent(command, registry)  # type: ignore[arg-type]  # it is one
        creation = CreateAgent(call=call(1), credential=certificate(admin), label="mac")
        with pytest.raises(CertwireError) as waited:
            await create_agent(creation, registry)
        assert waited.value.code is ErrorCode.CONFLICT
        await tables.run(AGE)
        issuer.crash_before = None
        await sweep(registry)
        await create_agent(fresh(creation), registry)  # type: ignore[arg-type]  # it is one


async def test_the_void_is_told_until_it_is_confirmed(place: Place, tables: Tables) -> None:
    issuer = StandInIssuer()
    async with a_registry(place, issuer) as registry:
        first = await initialised(registry)
        command = await a_creation(registry, first.admin.certificate.fingerprint)
        issuer.crash_after = GenerateAgentBundle
        with pytest.raises(Crash):
            await create_agent(command, registry)  # type: ignore[arg-type]  # it is one
        await tables.run(AGE)
        issuer.crash_after = VoidRegistryClaims
        with pytest.raises(Crash):
            await sweep(registry)
        issuer.crash_after = None
        await sweep(registry)
        await sweep(registry)
    assert len(issuer.voided) == 2
    assert issuer.voided[0].claim_ids == issuer.voided[1].claim_ids
