"""`python -m tests.bench.renewals`: what a schedule of many certificates costs.

How long a look takes where nothing is due, where some are, and where all are, as after an outage;
how long it takes to find whose CA is to be asked, and what is about to end. The medians count.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import asyncpg

from contracts.subjects import Service
from services.acme.app import open_acme
from services.acme.expiry import ending
from services.acme.renewals import ARI_LEASE, BATCH, Renewals
from services.acme.service import Acme
from services.acme.settings import AcmeSettings
from services.acme.store import schedule
from services.acme.store.sealed import ACCOUNT_KEY
from shared.clock import utc_now
from shared.expiry import Expiry
from tests.support.servers import Place, PostgresServer, postgres_server

TIMES: Final = 9
ROUNDS: Final = 20
NOWHERE: Final = "https://127.0.0.1:9/directory"
PROJECTS: Final = """
INSERT INTO acme.project (id, name, domain)
SELECT 'p' || n, 'p' || n, 'p' || n || '.example.com' FROM generate_series(1, $1::int) n
"""
CERTIFICATES: Final = """
INSERT INTO acme.certificate (project_id, type, domain, names, fingerprint, serial_hex, subject,
    issuer, issuer_common_name, not_before, not_after, chain_pem, sealed_key, account_id, issuance,
    ari_id, ari_check_at, renew_at)
SELECT 'p' || n, 'letsencrypt', 'p' || n || '.example.com', ARRAY['p' || n || '.example.com'],
    md5(n::text) || md5(n::text), to_hex(n), 'CN=p' || n, 'CN=CA', 'CA',
    age, age + interval '90 days', repeat('x', 4000), decode(repeat('00', 200), 'hex'), $2::bigint,
    '{"email": "ops@example.com", "challenge_type": "http-01"}', 'a.' || n,
    now() + interval '6 hours' * random() + interval '1 minute',
    age + interval '58 days' + interval '1 minute'
FROM (
    SELECT n, now() - interval '58 days' * random() AS age FROM generate_series(1, $1::int) n
) made
"""


async def fill(server: PostgresServer, url: str, acme: Acme, rows: int) -> None:
    """Store certificates whose renewals are spread over the next 58 days."""
    connection = await asyncpg.connect(server.superuser_url_of(url.rsplit("/", 1)[-1]))
    try:
        account: int = await connection.fetchval(
            "INSERT INTO acme.account (directory, email, sealed_key) VALUES ($1, $2, $3)"
            " RETURNING id",
            NOWHERE,
            "ops@example.com",
            acme.sealer.seal(b"k", ACCOUNT_KEY.row(1)),
        )
        await connection.execute(PROJECTS, rows)
        await connection.execute(CERTIFICATES, rows, account)
        await connection.execute("VACUUM ANALYZE acme.certificate, acme.project, acme.acme_order")
    finally:
        await connection.close()


async def timed(what: str, work: Callable[[], Awaitable[object]], times: int = TIMES) -> None:
    """Print how long some work takes."""
    seconds = []
    found: object = None
    for _ in range(times):
        begun = time.perf_counter()
        found = await work()
        seconds.append(time.perf_counter() - begun)
    median, most = statistics.median(seconds) * 1000, max(seconds) * 1000
    sys.stdout.write(f"{what:44} {median:8.1f} ms, {most:8.1f} at the most   ({found})\n")


async def measure(server: PostgresServer, rows: int) -> None:
    """Print a line for each thing that the schedule does."""
    async with server.fresh_database() as url:
        settings = Place(server.home, url).settings(
            AcmeSettings, acme_directory_url=NOWHERE, acme_renewals_per_hour=10**9
        )
        acme = await open_acme(settings)
        database, renewals = acme.runtime.database, Renewals(acme)
        try:
            await fill(server, url, acme, rows)
            look = partial(renewals.begin_due, staging=False)
            await timed("look, nothing is due", look)

            async def ari() -> int:
                async with database.statement() as connection:
                    return len(await schedule.claim_ari(connection, ARI_LEASE, 20))

            await timed("take 20 whose CA is to be asked (ARI)", ari)

            async def overview() -> object:
                async with database.connection() as connection:
                    return (await schedule.schedule(connection))[0] is not None

            await timed("when is the next renewal", overview)
            expiry = Expiry(Service.ACME, database, acme.runtime.backlog, ending)
            await timed("look for what ends", partial(expiry.look, utc_now()))
            async with database.statement() as connection:
                await connection.execute("UPDATE certificate SET renew_at = now()")
            await timed(f"begin {BATCH}, all are due", look, ROUNDS)
        finally:
            await acme.close()
            with suppress(Exception):
                await acme.runtime.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with postgres_server() as server:
        asyncio.run(measure(server, options.rows))


if __name__ == "__main__":
    main()
