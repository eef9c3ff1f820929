"""`certwire init`: everything that has to be there before the services start.

Each step may be repeated and leaves what it finds, so a run that was cut off anywhere is finished
by the next:

1. `prepare`: secret files and the accounts of NATS. Postgres and NATS can be started after it.
2. `initialise`: roles, schemas and tables in Postgres; the platform's CA; administrator and
   superuser, whose secrets are handed out in the transaction that records them.
3. `provision_streams`: the streams in NATS.

With `CERTWIRE_POSTGRES_ADMIN_URL` Postgres is somebody else's and the secrets are printed; without
it, it is the embedded one, and they are written to `$CERTWIRE_HOME/bootstrap/`.
"""

import argparse
import asyncio
import secrets
import sys
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from services.cli.errors import OK
from shared.files import write_private
from shared.settings import Settings

SUPERUSER: Final = "postgres"
"""The role of the embedded cluster that may do everything; its password is a secret file."""


class InitSettings(Settings):
    """What only `certwire init` needs."""

    postgres_admin_url: str | None = None
    """Logs in as a role that may create databases and roles; None for the embedded Postgres."""
    nats_replicas: int = 1
    """Copies of each stream: 3 in a cluster of three servers."""

    @property
    def embedded(self) -> bool:
        """Return whether Postgres is the one that `certwire up` starts."""
        return self.postgres_admin_url is None

    @property
    def admin_url(self) -> str:
        """Return how to log in to Postgres as its administrator. Raises FileNotFoundError."""
        if self.postgres_admin_url is not None:
            return self.postgres_admin_url
        parts = urlsplit(self.database_url)
        password = quote(superuser_password(self), safe="")
        host = parts.netloc.split("@")[-1]
        return urlunsplit(parts._replace(netloc=f"{SUPERUSER}:{password}@{host}", path="/postgres"))

    @property
    def database(self) -> str:
        """Return the name of the database."""
        return urlsplit(self.database_url).path.lstrip("/")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="only make the secret files and the accounts that NATS starts with",
    )
    parser.epilog = (
        "Safe to repeat: what exists stays as it is.\n\n"
        "With CERTWIRE_POSTGRES_ADMIN_URL, DATABASE_URL and NATS_URL it works on servers of your\n"
        "own, and prints the administrator's and the superuser's secrets once, as JSON.\n"
        "`certwire up` does all of this by itself.\n\n"
        "Examples:\n"
        "  certwire init --prepare    # then start NATS, with $CERTWIRE_HOME/nats/accounts.conf\n"
        "  certwire init > first-secrets.json"
    )


def run(arguments: argparse.Namespace) -> int:
    """Initialise the platform."""
    settings = InitSettings()
    prepare(settings)
    if not arguments.prepare:
        asyncio.run(_initialise_with_streams(settings))
    return OK


async def _initialise_with_streams(settings: InitSettings) -> None:
    await initialise(settings)
    await provision_streams(settings)
    print("initialised", file=sys.stderr)


def prepare(settings: Settings) -> None:
    """Make the secret files, and the accounts of NATS; what exists stays."""
    from services.provisioning import nats

    directory = settings.secrets
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    for name, value in _new_secrets().items():
        if not (directory / name).exists():
            write_private(directory / name, f"{value}\n")
    nats.ensure_seeds(directory, nats.users())
    accounts = settings.home / "nats" / "accounts.conf"
    accounts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    nats.write_accounts(accounts, directory)


async def initialise(settings: InitSettings) -> None:
    """Do all that Postgres is needed for; it has to be running, NATS has not."""
    from services.provisioning.postgres import migrate_all, provision_postgres

    await provision_postgres(settings.admin_url, settings.secrets, settings.database)
    await migrate_all(settings)


async def provision_streams(settings: InitSettings) -> None:
    """Create the streams, or bring them up to date; needed again where NATS lost its store."""
    from services.provisioning import nats

    await nats.provision_streams(
        settings.nats_url,
        settings.secrets,
        replicas=settings.nats_replicas,
        ca_file=settings.nats_ca_file,
    )


def superuser_password(settings: Settings) -> str:
    """Return the password of the embedded cluster's superuser. Raises FileNotFoundError."""
    return settings.secret(f"postgres-{SUPERUSER}.password")


def _new_secrets() -> dict[str, str]:
    from shared.secrets import new_key

    return {
        f"postgres-{SUPERUSER}.password": secrets.token_urlsafe(32),
        "kek": new_key(),
        "root.passphrase": secrets.token_urlsafe(32),
    }
