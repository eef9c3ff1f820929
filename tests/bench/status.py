"""What one more revocation costs a long CRL, and OCSP a second: `python -m tests.bench.status`.

The issuer's own code on an embedded Postgres without fsync (a disk adds the same to each size), no
bus and no HTTP. "Others" is cryptography's CRL builder for the same list, entries included. Times
are the fastest of the rounds: what a busy machine adds is no cost of the code.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from services.issuer import crl
from services.issuer.app import open_issuer
from services.issuer.bootstrap import create_platform_ca
from services.issuer.handlers.platform import sign_instance_certificate
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from shared.clock import utc_now
from tests.support.servers import Place, PostgresServer, postgres_server
from tests.unit.services.issuer.builders import order

SIZES = (100, 10_500, 100_500)
"""The last segment is half full."""
ROUNDS = 21
OCSP_REQUESTS = 3_000
AT_ONCE = 64
WAITING = """
INSERT INTO crl_waiting SELECT $1, unnest($2::text[]), now(), 'superseded', now() + interval '1 day'
"""


def milliseconds(began: float) -> float:
    return (time.perf_counter() - began) * 1000


async def wait_for_listing(issuer: Issuer, ca_id: int, count: int) -> None:
    """Let so many revocations wait for the next CRL."""
    serials = [f"4{os.urandom(16).hex()[1:]}" for _ in range(count)]
    async with issuer.runtime.database.connection() as connection:
        await connection.execute(WAITING, ca_id, serials)


async def vacuum(superuser_url: str) -> None:
    """Do what autovacuum does, which the tests' Postgres is without."""
    connection = await asyncpg.connect(superuser_url)
    await connection.execute("VACUUM (ANALYZE, SKIP_LOCKED)")
    await connection.close()


async def written(issuer: Issuer) -> int:
    """Return how many octets of write-ahead log there are."""
    async with issuer.runtime.database.connection() as connection:
        return int(await connection.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))


class Signing:
    """Measures the thread that puts the list together, hashes and signs it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.to_thread = asyncio.to_thread

    async def __call__(self, work: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - handed on
        began = time.perf_counter()
        result = await self.to_thread(work, *arguments)
        if work is crl._sign:
            self.seconds.append(time.perf_counter() - began)
        return result


async def crls(issuer: Issuer, replica: Issuer, size: int, superuser_url: str) -> list[str]:
    """Return the row of one size."""
    ca, _ = issuer.authorities.signing()
    await wait_for_listing(issuer, ca.id, size)
    began = time.perf_counter()
    await issuer.crls.make(ca.id)
    first = milliseconds(began)
    await vacuum(superuser_url)
    signing = asyncio.to_thread = Signing()  # type: ignore[assignment]  # here alone
    more, wal, rest = [], [], []
    for _ in range(ROUNDS):
        await wait_for_listing(issuer, ca.id, 1)
        before = await written(issuer)
        began = time.perf_counter()
        await issuer.crls.make(ca.id)
        more.append(milliseconds(began))
        rest.append(more[-1] - signing.seconds[-1] * 1000)
        wal.append((await written(issuer) - before) / 1024)
    asyncio.to_thread = signing.to_thread
    signed = min(signing.seconds) * 1000
    began = time.perf_counter()
    held = await replica.crls.current(ca)
    cold = milliseconds(began)
    asked = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await issuer.crls.current(ca)
        asked.append(milliseconds(began))
    assert held is not None
    assert len(x509.load_der_x509_crl(held.der)) == size + ROUNDS
    return [
        f"{size:,}",
        f"{len(held.der) / 1024:,.0f}",
        f"{min(more):.1f}",
        f"{signed:.1f}",
        f"{min(rest):.1f}",
        f"{statistics.median(wal):.0f}",
        f"{first:.0f}",
        f"{cold:.0f}",
        f"{min(asked):.1f}",
        f"{others(size):,.0f}",
    ]


def others(size: int) -> float:
    """Return how long cryptography takes for a CRL of that size, in ms."""
    key, now = ec.generate_private_key(ec.SECP256R1()), utc_now()
    began = time.perf_counter()
    reason = x509.CRLReason(x509.ReasonFlags.superseded)
    revoked = [
        x509.RevokedCertificateBuilder(serial, now, [x509.Extension(reason.oid, False, reason)])
        for serial in range(2**126, 2**126 + size)
    ]
    builder = x509.CertificateRevocationListBuilder(
        x509.Name([]), now, now + timedelta(days=1), [], [each.build() for each in revoked]
    )
    builder.sign(key, SHA256()).public_bytes(Encoding.DER)
    return milliseconds(began)


async def ocsp_rates(issuer: Issuer) -> list[str]:
    """Return answers a second: repeats, and with a nonce; one by one, and many at once."""
    ca, _ = issuer.authorities.signing()
    issuing = x509.load_der_x509_certificate(ca.certificate)
    signed = await sign_instance_certificate(order(), issuer)
    leaf = x509.load_pem_x509_certificate(signed.certificate_pem.encode())
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuing, SHA1())  # noqa: S303 - what most clients send
    nonced = builder.add_extension(x509.OCSPNonce(b"n" * 32), critical=False)
    rates = []
    for each in (builder, nonced):
        request = each.build().public_bytes(Encoding.DER)

        async def ask(request: bytes = request) -> None:
            await issuer.responders.answer(ca.slug, request)

        rates += [await rate(ask, 1), await rate(ask, AT_ONCE)]
    return [f"{each:,.0f}" for each in rates]


async def rate(ask: Callable[[], Awaitable[None]], at_once: int) -> float:
    """Return how many a second."""

    async def several() -> None:
        for _ in range(OCSP_REQUESTS // at_once):
            await ask()

    await ask()
    began = time.perf_counter()
    await asyncio.gather(*(several() for _ in range(at_once)))
    return OCSP_REQUESTS / (time.perf_counter() - began)


def table(heads: list[str], rows: list[list[str]]) -> None:
    rule = ["---"] * len(heads)
    sys.stdout.writelines(f"| {' | '.join(row)} |\n" for row in (heads, rule, *rows))


async def run(postgres: PostgresServer) -> None:
    rows, rates = [], []
    for size in SIZES:
        async with postgres.fresh_database() as url:
            superuser_url = postgres.superuser_url_of(urlsplit(url).path.lstrip("/"))
            settings = Place(postgres.home, url).settings(IssuerSettings)
            await create_platform_ca(settings)
            issuer, replica = await open_issuer(settings), await open_issuer(settings)
            for each in (issuer, replica):
                await each.authorities.load()
            rows.append(await crls(issuer, replica, size, superuser_url))
            rates = [await ocsp_rates(issuer)]
            for each in (issuer, replica):
                await each.runtime.close()
    table(
        ["listed", "kB", "one more, ms", "of it signing", "the rest", "WAL, kB", "first, ms",
         "read by another, ms", "no news, ms", "others, ms"],
        rows,
    )  # fmt: skip
    sys.stdout.write("\n")
    table(["OCSP/s repeated", f"{AT_ONCE} at once", "with nonce", f"{AT_ONCE} at once"], rates)


def main() -> int:
    with postgres_server() as postgres:
        asyncio.run(run(postgres))
    return 0


if __name__ == "__main__":
    sys.exit(main())
