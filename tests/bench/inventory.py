"""`python -m tests.bench.inventory inserts|searches|corners`: the indexes of the inventory.

What they cost those who sign: the statement of the signing path, 32 certificates a commit, into a
table that has many already; with all indexes, without each, and without all. Rounds alternate; the
lowest is what is least disturbed by others on the machine.

And what they are good for: each search of the tests, how long a page takes; in `corners` each
condition by each kind of caller, where what is looked for is old and all that is newer is not.
"""

import argparse
import asyncio
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from contracts.pki import SearchCertificates
from contracts.principal import Principal
from services.issuer.authority import Certificate
from services.issuer.domain.inventory import Position
from services.issuer.handlers.inventory import search_of
from services.issuer.store import signed
from services.issuer.store.certificates import Kept
from services.issuer.store.inventory import search as find
from services.issuer.store.signed import Issuance
from shared.clock import utc_now
from shared.database import Database
from shared.identifiers import uuid7
from shared.outbox import OutboxRow
from shared.settings import Settings
from tests.support.inventory import (
    DER_OCTETS,
    corner_searches,
    fill,
    fill_corners,
    searches,
)
from tests.support.running import call
from tests.support.servers import Place, PostgresServer, postgres_server

BATCH = 32
"""As many as the signing path puts into one commit."""
ENTRY = "{" + " " * 900 + "}"
"""About as long as the audit record of a certificate, and its event."""
INDEXES = (
    "certificate_common_name",
    "certificate_names",
    "certificate_ca",
    "certificate_kind",
    "certificate_end",
    "certificate_revoked",
    "certificate_instance_end",
    "certificate_organization_end",
    "certificate_creator_end",
)
TIMES = 6
"""How often a page is read; the first time does not count."""


def issuance() -> Issuance:
    """Return an instance's certificate, as it is recorded."""
    now, instance = utc_now(), str(uuid4())
    name = f"instance:{instance}"
    return Issuance(
        claim_id=uuid7(),
        ca_id=2,
        certificate=Certificate(
            bytes(DER_OCTETS), uuid4().hex, uuid4().hex * 2, now, now + timedelta(days=1)
        ),
        kind="instance",
        owner_service="instance",
        owner_id=instance,
        subject=f"CN={name}",
        names=(f"URI:spiffe://certwire.internal/instance/{instance}",),
        public_key_sha256=uuid4().hex * 2,
        renews=None,
        outbox=OutboxRow(ENTRY, ENTRY, "subject", ENTRY),
        common_name=name,
    )


async def microseconds(database: Database, batches: int) -> float:
    """Return how much of a processor's time Postgres takes to record a certificate."""
    made = [[issuance() for _ in range(BATCH)] for _ in range(batches)]
    async with database.connection() as connection:
        backend = Path(f"/proc/{await connection.fetchval('SELECT pg_backend_pid()')}/schedstat")
        await signed.issue(connection, [issuance() for _ in range(BATCH)])
        before = _nanoseconds(backend)
        for batch in made:
            await signed.issue(connection, batch)
        return (_nanoseconds(backend) - before) / (batches * BATCH * 1000)


def _nanoseconds(schedstat: Path) -> int:
    """Return how long a process has run: unlike the clock, that knows nothing of its neighbours."""
    return int(schedstat.read_text().split()[0])


async def measure(server: PostgresServer, rows: int, rounds: int, batches: int) -> None:
    """Print a line for each choice of indexes."""
    choices: dict[str, tuple[str, ...]] = {
        "all": (),
        **{f"without {name}": (name,) for name in INDEXES},
        "none of them": INDEXES,
    }
    found: dict[str, list[float]] = {name: [] for name in choices}
    for _ in range(rounds):
        for name, without in choices.items():
            async with server.fresh_database() as url:
                await fill(server, url, rows, *without)
                settings = Place(server.home, url).settings(Settings)
                database = await Database.open(settings, "issuer")
                found[name].append(await microseconds(database, batches))
                await database.close()
    for name, values in found.items():
        listed = " ".join(f"{value:.0f}" for value in sorted(values))
        line = f"{name:32} {min(values):6.1f} µs a certificate   ({listed})"
        sys.stdout.write(line + "\n")


async def search(server: PostgresServer, rows: int) -> None:
    """Print a line for each search."""
    async with server.fresh_database() as url:
        await fill(server, url, rows)
        await pages(server, url, searches(utc_now()), "")


async def corners(server: PostgresServer, rows: int) -> None:
    """Print a line for each condition, caller and table."""
    for name, few, is_expired in (
        ("one old among many", 1, False),
        ("the older half", rows // 2, False),
        ("one old among expired", 1, True),
    ):
        async with server.fresh_database() as url:
            await fill_corners(server, url, rows, few, is_expired=is_expired)
            await pages(server, url, corner_searches(utc_now()), name)


async def pages(
    server: PostgresServer, url: str, asked: dict[str, tuple[Principal, dict[str, Any]]], table: str
) -> None:
    """Print how long the first page of each search takes, and whether it is short."""
    database = await Database.open(Place(server.home, url).settings(Settings), "issuer")
    for name, (actor, conditions) in asked.items():
        command = SearchCertificates(call=call(), actor=actor, **conditions)
        page: tuple[list[Kept], Position | None] = ([], None)
        seconds = []
        for _ in range(TIMES):
            async with database.transaction() as connection:
                begun = time.perf_counter()
                page = await find(connection, search_of(command, utc_now()))
                seconds.append(time.perf_counter() - begun)
        sys.stdout.write(
            f"{table:24} {name:44} {max(seconds[1:]) * 1000:8.1f} ms at the most"
            f" {len(page[0]):4} found{', and more' if page[1] else ''}\n"
        )
        sys.stdout.flush()
    await database.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("inserts", "searches", "corners"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=300)
    options = parser.parse_args()
    with postgres_server() as server:
        if options.what == "searches":
            asyncio.run(search(server, options.rows))
        elif options.what == "corners":
            asyncio.run(corners(server, options.rows))
        else:
            asyncio.run(measure(server, options.rows, options.rounds, options.batches))


if __name__ == "__main__":
    main()
