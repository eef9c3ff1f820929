"""A registry in the test's own process, with an issuer that fails where the test says."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
from argon2 import PasswordHasher

from contracts.certificates import SignedCertificate
from contracts.issuer import (
    GenerateCommand,
    GetPlatformCa,
    PlatformCa,
    RecordedRevocations,
    RevokeRegistryCertificates,
    SignCommand,
    SignedBundle,
    VoidRegistryClaims,
)
from contracts.messages import Command, Done, IdempotencyKey, Message
from contracts.principal import Credential, CredentialKind, PrincipalKind
from contracts.registry import ResetAdmin, ResolveCredentials
from services.registry.app import open_registry
from services.registry.bootstrap import FirstSecrets, create_admin_and_superuser
from services.registry.handlers.credentials import resolve_credentials
from services.registry.passwords import Passwords
from services.registry.service import Registry
from services.registry.settings import RegistrySettings
from shared.clock import utc_now
from tests.support.running import call
from tests.support.servers import Place, PostgresServer


class Crash(Exception):  # noqa: N818 - not an error: the process is gone
    """The registry ends here."""


class StandInIssuer:
    """Answers as the issuer does; `crash_before` and `crash_after` end the caller instead."""

    def __init__(self) -> None:
        self.made: list[GenerateCommand] = []
        self.signed: list[SignCommand] = []
        self.voided: list[VoidRegistryClaims] = []
        self.revoked: list[RevokeRegistryCertificates] = []
        self.crash_before: type[Command[Any]] | None = None
        self.crash_after: type[Command[Any]] | None = None

    async def request(self, command: Command[Any]) -> Any:  # noqa: ANN401 - the reply of the command
        if type(command) is self.crash_before:
            raise Crash
        reply = self._answer(command)
        if type(command) is self.crash_after:
            raise Crash
        return reply

    def _answer(self, command: Command[Any]) -> Message:
        if isinstance(command, GenerateCommand):
            self.made.append(command)
            return _bundle()
        if isinstance(command, SignCommand):
            self.signed.append(command)
            return certificate()
        if isinstance(command, VoidRegistryClaims):
            self.voided.append(command)
        if isinstance(command, RevokeRegistryCertificates):
            self.revoked.append(command)
            return RecordedRevocations(refused=())
        if isinstance(command, GetPlatformCa):
            return PlatformCa(ca_pem="the CAs")
        return Done()


def certificate() -> SignedCertificate:
    """Return what stands for a new certificate."""
    return SignedCertificate(
        certificate_pem="a certificate",
        serial_hex=secrets.token_hex(16).lstrip("0"),
        fingerprint=secrets.token_hex(32),
        not_before=utc_now() - timedelta(minutes=1),
        not_after=utc_now() + timedelta(days=730),
    )


def _bundle() -> SignedBundle:
    return SignedBundle(
        certificate=certificate(),
        pkcs12=b"new",
        legacy_pkcs12=b"legacy",
        password=secrets.token_hex(16),
    )


@asynccontextmanager
async def a_registry(
    place: Place, issuer: StandInIssuer | None = None, **settings: int
) -> AsyncIterator[Registry]:
    """Lend a registry without NATS, whose passwords are quick to hash."""
    registry = await open_registry(
        place.settings(RegistrySettings, **settings), (issuer or StandInIssuer()).request
    )
    registry.passwords = quick_passwords()
    try:
        yield registry
    finally:
        await registry.runtime.close()


def quick_passwords() -> Passwords:
    """Return passwords whose hashes take no time."""
    return Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


async def initialised(registry: Registry) -> FirstSecrets:
    """Make administrator and superuser, and return their secrets."""
    handed_out: list[FirstSecrets] = []
    assert await create_admin_and_superuser(registry, handed_out.append)
    return handed_out[0]


class Tables:
    """Looks into a test's database, as its superuser."""

    def __init__(self, postgres: PostgresServer, database_url: str) -> None:
        self._url = postgres.superuser_url_of(database_url.rsplit("/", 1)[-1])

    async def run(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        connection = await asyncpg.connect(self._url)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    @asynccontextmanager
    async def locked(self, table: str) -> AsyncIterator[None]:
        """Let nobody write to a table until the block ends."""
        connection = await asyncpg.connect(self._url)
        try:
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
                yield
        finally:
            await connection.close()

    async def values(self, sql: str, *arguments: object) -> list[Any]:
        """Return the first column."""
        return [row[0] for row in await self.run(sql, *arguments)]


def reset(key: str | None = None) -> ResetAdmin:
    """Return the command, under an idempotency key where one is given."""
    idempotency = IdempotencyKey(scope="0" * 64, key=key, request="1" * 64) if key else None
    return ResetAdmin(call=call().model_copy(update={"idempotency": idempotency}))


async def who(registry: Registry, *fingerprints: str) -> list[PrincipalKind | None]:
    """Ask whom certificates stand for."""
    questions = tuple(
        ResolveCredentials.Question(
            credential=Credential(kind=CredentialKind.CERTIFICATE, sha256=fingerprint),
            request_id="r",
            source_address="192.0.2.1",
        )
        for fingerprint in fingerprints
    )
    command = ResolveCredentials(call=call(), questions=questions)
    reply = await resolve_credentials(command, registry)
    return [principal.kind if principal else None for principal in reply.principals]
