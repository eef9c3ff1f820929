"""The database, the roles and the schemas: what `certwire init` makes in Postgres.

Each service's role sees exactly its own schema. Everything belongs to `certwire_migrate`, which
only `certwire migrate` uses; `certwire_inspect` may read all and change nothing. Every step may be
repeated, so an interrupted run is finished by the next.
"""

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from contracts.subjects import Service
from shared.database import role_url
from shared.files import write_private
from shared.migrations import migrate
from shared.settings import Settings

SERVICES: Final = (
    Service.ISSUER,
    Service.REGISTRY,
    Service.INSTANCE,
    Service.ACME,
    Service.AUDIT,
)
"""The services that keep anything; each name is also a role and a schema."""
MIGRATE: Final = "certwire_migrate"
INSPECT: Final = "certwire_inspect"
DATABASE: Final = "certwire"
SCRAM_ITERATIONS: Final = 4096
"""Postgres's own number (`scram_iterations`): the passwords are 256 random bits."""
_LOCK_KEY: Final = 0x696E6974  # "init"


async def provision_postgres(admin_url: str, secrets_dir: Path, database: str = DATABASE) -> None:
    """Make database, roles and schemas, and the files with the roles' passwords.

    `admin_url` logs in as a role that may create databases and roles.
    """
    passwords = ensure_passwords(secrets_dir)
    async with _connection(admin_url) as admin:
        await admin.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
        for role, password in passwords.items():
            await _make_role(admin, role, password)
        await _make_database(admin, database)
        await _run(
            admin,
            f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC',
            f'GRANT CONNECT ON DATABASE "{database}" TO {", ".join(passwords)}',
            f'GRANT CREATE ON DATABASE "{database}" TO {MIGRATE}',
        )
    async with _connection(_at(admin_url, database)) as admin:
        await admin.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    async with _connection(_at(admin_url, database, MIGRATE, passwords[MIGRATE])) as owner:
        await _make_schemas(owner)


def ensure_passwords(secrets_dir: Path) -> dict[str, str]:
    """Return the password of every role, each from its file; what is missing is made."""
    return {role: _password(secrets_dir, role) for role in (*SERVICES, MIGRATE, INSPECT)}


async def migrate_all(settings: Settings) -> dict[str, list[str]]:
    """Bring every schema up to date; return by service what was applied.

    Raises `MigrationError`.
    """
    async with _connection(role_url(settings, MIGRATE)) as owner:
        return {str(service): await migrate(owner, service) for service in SERVICES}


async def _make_role(admin: asyncpg.Connection, role: str, password: str) -> None:
    if not await admin.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
        await admin.execute(f"CREATE ROLE {role}")
    # The verifier rather than the password: nothing to read in the server's log.
    await admin.execute(f"ALTER ROLE {role} LOGIN PASSWORD '{_scram_verifier(password)}'")
    if role in SERVICES:
        await admin.execute(f"ALTER ROLE {role} SET search_path = {role}")
    if role == INSPECT:
        await admin.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")


async def _make_database(admin: asyncpg.Connection, database: str) -> None:
    if not await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", database):
        # One order of text everywhere, whatever the machine's locale: pages are cut by it.
        await admin.execute(
            f"CREATE DATABASE \"{database}\" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
            " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
        )


async def _make_schemas(owner: asyncpg.Connection) -> None:
    await owner.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    for role in SERVICES:
        default = f"ALTER DEFAULT PRIVILEGES IN SCHEMA {role}"
        await _run(
            owner,
            f"CREATE SCHEMA IF NOT EXISTS {role}",
            f"GRANT USAGE ON SCHEMA {role} TO {role}, {INSPECT}",
            f"{default} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
            f"{default} GRANT USAGE ON SEQUENCES TO {role}",
            f"{default} GRANT EXECUTE ON FUNCTIONS TO {role}",
            f"{default} GRANT SELECT ON TABLES TO {INSPECT}",
        )


async def _run(connection: asyncpg.Connection, *statements: str) -> None:
    for statement in statements:
        await connection.execute(statement)


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


def _at(url: str, database: str, role: str | None = None, password: str | None = None) -> str:
    """Return the URL of another database on the same server, as another role where one is named."""
    parts = urlsplit(url)
    address = parts.netloc if role is None else f"{role}:{password}@{parts.netloc.split('@')[-1]}"
    return urlunsplit(parts._replace(netloc=address, path=f"/{database}"))


def _password(secrets_dir: Path, role: str) -> str:
    """Return the role's password, made where there is none: 256 random bits, safe in a URL."""
    path = secrets_dir / f"postgres-{role}.password"
    if not path.exists():
        secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()


def _scram_verifier(password: str) -> str:
    """Return what Postgres stores for a password (RFC 5803); random text needs no SASLprep."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
