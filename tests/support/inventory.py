"""Certificates by the hundred thousand, written straight into the table."""

from datetime import datetime, timedelta
from typing import Any

import asyncpg

from contracts.principal import Principal, PrincipalKind, Role
from services.issuer.domain.inventory import Order, Position
from tests.support.servers import PostgresServer

ROOT = Principal(kind=PrincipalKind.USER, id="1", name="root", role=Role.SUPERUSER)
DAYS = 400
"""Users' certificates begin over so many days before now, and last a year."""
FILL = """
INSERT INTO issuer.certificate (ca_id, serial_hex, fingerprint, kind, owner_service, owner_id,
    subject, subject_alternative_names, public_key_sha256, certificate, not_before, not_after,
    created_at, revoked_at, revocation_reason, common_name, organization_id, created_by_user_id)
SELECT
    CASE WHEN is_instance THEN 2 ELSE 3 + n % 50 END,
    md5(n::text), md5(n::text) || md5(n::text || 'x'),
    CASE WHEN is_instance THEN 'instance' WHEN n % 10000 = 1 THEN 'ca'
        WHEN n % 3 = 0 THEN 'client' ELSE 'server' END,
    CASE WHEN is_instance THEN 'instance' ELSE 'issuer' END, n::text, 'CN=' || common_name,
    ARRAY[CASE WHEN is_instance THEN 'URI:spiffe://certwire.internal/instance/' || n
        ELSE 'DNS:' || lower(common_name) END],
    md5(n::text), $2, begun,
    begun + CASE WHEN is_instance THEN interval '1 day' ELSE interval '365 days' END, begun,
    CASE WHEN n % 1000 = 7 THEN begun END, CASE WHEN n % 1000 = 7 THEN 'superseded' END,
    common_name, CASE WHEN NOT is_instance THEN n % 200 + 1 END,
    CASE WHEN NOT is_instance THEN n % 4000 + 1 END
FROM (
    SELECT n, n % 2 = 0 AS is_instance,
        now() - (1 - n::float8 / $1) * interval '400 days' AS begun,
        CASE WHEN n % 2 = 0 THEN 'instance:' || md5(n::text)
            WHEN n % 20 = 1 THEN 'Web-' || n || '.example.com'
            ELSE md5(n::text) || '.example.org' END AS common_name
    FROM generate_series(1, $1::bigint) AS n
) AS numbered
"""
CA = """
INSERT INTO issuer.ca (id, name, slug, kind, subject, certificate, fingerprint, not_before,
    not_after, key_backend)
SELECT n, 'CA', 'ca-' || n, 'user', 'CN=CA', '', n::text, now(), now(), 'file'
FROM generate_series(3, 60) AS n
"""
DER_OCTETS = 600
"""About what a P-256 certificate has."""
CORNERS = """
INSERT INTO issuer.certificate (ca_id, serial_hex, fingerprint, kind, owner_service, owner_id,
    subject, subject_alternative_names, public_key_sha256, certificate, not_before, not_after,
    created_at, revoked_at, revocation_reason, common_name, organization_id, created_by_user_id)
SELECT CASE WHEN is_old THEN 4 ELSE 3 END, md5(n::text), md5(n::text) || md5(n::text || 'x'),
    CASE WHEN is_old THEN 'client' ELSE 'server' END, 'issuer', '', 'CN=' || name,
    ARRAY['DNS:' || name], '', $2, now() - interval '900 days',
    CASE WHEN is_old = $4 THEN now() + interval '90 days' ELSE now() - interval '90 days' END
        + n * interval '1 second',
    now(), CASE WHEN n > $3 AND n <= 2 * $3 THEN now() END,
    CASE WHEN n > $3 AND n <= 2 * $3 THEN 'superseded' END, name,
    CASE WHEN is_old THEN 19 ELSE 18 END, 18
FROM (
    SELECT n, n <= $3 AS is_old,
        CASE WHEN n <= $3 THEN 'old' ELSE 'new' END || '.example.com' AS name
    FROM generate_series(1, $1::bigint) AS n
) AS numbered
"""
INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = 'issuer' AND tablename = 'certificate' AND indexdef !~ 'UNIQUE'
"""


async def fill(postgres: PostgresServer, database_url: str, count: int, *without: str) -> None:
    """Write `count` certificates, half of them of instances, and analyse the table.

    The indexes are made afterwards, in a third of the time; those named stay away.
    """
    await _fill(postgres, database_url, without, FILL, count, bytes(DER_OCTETS))


async def fill_corners(
    postgres: PostgresServer, database_url: str, count: int, old: int, *, is_expired: bool
) -> None:
    """Write `count` certificates, of which the oldest differ in everything from the others.

    As many after them are revoked. `is_expired` are all but the oldest, or else the oldest only.
    """
    await _fill(postgres, database_url, (), CORNERS, count, bytes(DER_OCTETS), old, is_expired)


async def _fill(
    postgres: PostgresServer,
    database_url: str,
    without: tuple[str, ...],
    query: str,
    *arguments: object,
) -> None:
    connection = await superuser(postgres, database_url)
    try:
        indexes = await connection.fetch(INDEXES)
        for index in indexes:
            await connection.execute(f"DROP INDEX issuer.{index['indexname']}")
        await connection.execute(CA)
        await connection.execute(query, *arguments)
        for index in indexes:
            if index["indexname"] not in without:
                await connection.execute(index["indexdef"])
        await connection.execute("VACUUM ANALYZE issuer.certificate")
        await connection.execute("ANALYZE issuer.ca")
    finally:
        await connection.close()


async def superuser(
    postgres: PostgresServer, database_url: str
) -> "asyncpg.Connection[asyncpg.Record]":
    """Return a connection that may do everything."""
    return await asyncpg.connect(
        postgres.superuser_url_of(database_url.rsplit("/", 1)[-1]), command_timeout=300
    )


def user(number: int, organization_id: int | None = None, role: Role = Role.USER) -> Principal:
    """Return a user of an organisation, or of none."""
    return Principal(
        kind=PrincipalKind.USER,
        id=str(number),
        name=f"user {number}",
        role=role,
        organization_id=organization_id,
    )


def searches(now: datetime) -> dict[str, tuple[Principal, dict[str, Any]]]:
    """Return what is looked for, by whom, among the certificates of `fill`."""
    return {
        "everything": (ROOT, {}),
        "a page far on": (ROOT, {"cursor": Position(Order.NEWEST, 1000, now).cursor()}),
        "a common name": (ROOT, {"common_name": "web-100001.example.com"}),
        "a beginning": (ROOT, {"common_name": "web-1000*"}),
        "a frequent beginning": (ROOT, {"common_name": "web-*"}),
        "no such beginning": (ROOT, {"common_name": "zzz*"}),
        "an alternative name": (ROOT, {"san": "Web-100001.example.com"}),
        "an instance's name": (
            ROOT,
            {"san": "spiffe://certwire.internal/instance/497f6eca-6276-4993-bfeb-53cbbbba6f08"},
        ),
        "a serial": (ROOT, {"serial_hex": "c4ca4238a0b923820dcc509a6f75849b"}),
        "a fingerprint": (ROOT, {"fingerprint": "f" * 64}),
        "valid ones": (ROOT, {"status": "valid"}),
        "revoked ones": (ROOT, {"status": "revoked"}),
        "expired ones": (ROOT, {"status": "expired"}),
        "CAs": (ROOT, {"certificate_type": "ca"}),
        "servers": (ROOT, {"certificate_type": "server"}),
        "instances": (ROOT, {"certificate_type": "instance"}),
        "those of a CA": (ROOT, {"issuer_id": 18}),
        "those of an organisation": (ROOT, {"organization_id": 18}),
        "what ends this week": (
            ROOT,
            {
                "certificate_type": "server",
                "expires_after": now,
                "expires_before": now + 7 * timedelta(days=1),
            },
        ),
        "what is valid and ends soon": (
            ROOT,
            {"status": "valid", "expires_before": now + timedelta(days=30)},
        ),
        "a member": (user(18, 18), {}),
        "a member's beginning": (user(18, 18), {"common_name": "web-*"}),
        "a member's revoked": (user(18, 18), {"status": "revoked"}),
        "who has no organisation": (user(18), {}),
        "who has nothing": (user(10**9, 10**9), {"status": "valid"}),
    }


def corner_searches(now: datetime) -> dict[str, tuple[Principal, dict[str, Any]]]:
    """Return each condition by each kind of caller, among the certificates of `fill_corners`."""
    far = 3650 * timedelta(days=1)
    conditions: dict[str, dict[str, Any]] = {
        "nothing": {},
        "old name": {"common_name": "old.example.com"},
        "new name": {"common_name": "new.example.com"},
        "old beginning": {"common_name": "old*"},
        "new beginning": {"common_name": "new*"},
        "old alternative name": {"san": "old.example.com"},
        "new alternative name": {"san": "new.example.com"},
        "serial": {"serial_hex": "c4ca4238a0b923820dcc509a6f75849b"},
        "fingerprint": {"fingerprint": "f" * 64},
        "valid": {"status": "valid"},
        "expired": {"status": "expired"},
        "revoked": {"status": "revoked"},
        "client": {"certificate_type": "client"},
        "server": {"certificate_type": "server"},
        "instance": {"certificate_type": "instance"},
        "old CA": {"issuer_id": 4},
        "new CA": {"issuer_id": 3},
        "old organisation": {"organization_id": 19},
        "new organisation": {"organization_id": 18},
        "ends after now": {"expires_after": now},
        "ends before now": {"expires_before": now},
        "ends whenever": {"expires_after": now - far, "expires_before": now + far},
        "valid clients": {"status": "valid", "certificate_type": "client"},
        "expired clients": {"status": "expired", "certificate_type": "client"},
        "expired of the new CA": {"status": "expired", "issuer_id": 3},
        "valid of the old organisation": {"status": "valid", "organization_id": 19},
        "expired of the new organisation": {"status": "expired", "organization_id": 18},
        "old beginning of the new CA": {"common_name": "old*", "issuer_id": 3},
        "revoked of the old CA": {"status": "revoked", "issuer_id": 4},
    }
    callers = {"superuser": ROOT, "member": user(18, 18), "creator": user(18)}
    return {
        f"{name}, {caller}": (actor, asked)
        for name, asked in conditions.items()
        for caller, actor in callers.items()
    }
