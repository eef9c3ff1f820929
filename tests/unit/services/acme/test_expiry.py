"""Certificates of projects that end are announced, wherever they come from."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from contracts.subjects import Service
from services.acme.expiry import ending
from services.acme.store import expiring
from shared import expiry as module
from shared.clock import utc_now
from shared.database import Database
from shared.expiry import Expiry
from shared.outbox import Backlog
from shared.settings import Settings
from shared.x509 import fingerprint
from tests.support.plans import plan_of
from tests.support.servers import Place

NOW = utc_now()
DAY = timedelta(days=1)
PROJECT = "INSERT INTO project (id, name, domain) VALUES ($1, $1, $1 || '.example.com')"
INSERT = """
INSERT INTO certificate (project_id, staging, type, domain, names, fingerprint, serial_hex, subject,
    issuer, not_before, not_after, chain_pem, sealed_key, issuance, revoked_at)
VALUES ($1, $2, $3, $1 || '.example.com', '{}', $4, 'a1', 'CN=' || $1, 'CN=CA', $5, $6, '', '',
    CASE WHEN $3 = 'letsencrypt' THEN '{}'::jsonb END, $7)
"""
FILL_PROJECTS = (
    "INSERT INTO project (id, name) SELECT 'p' || n, '' FROM generate_series(1, $1) AS n"
)
FILL = """
INSERT INTO certificate (project_id, type, domain, names, fingerprint, serial_hex, subject,
    issuer, not_before, not_after, chain_pem, sealed_key)
SELECT 'p' || n, 'custom', '', '{}', '', '', '', '', now(), now() + n * interval '10 minutes',
    '', ''
FROM generate_series(1, $1) AS n
"""


class Projects:
    """Projects with a certificate each, and what has been announced of them."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def expiry(self) -> Expiry:
        return Expiry(Service.ACME, self.database, Backlog(1000), ending)

    async def add(
        self,
        project: str,
        ends: datetime,
        *,
        begins: datetime = NOW - 60 * DAY,
        kind: str = "letsencrypt",
        staging: bool = False,
        revoked: bool = False,
    ) -> str:
        identity = fingerprint(f"{project} {ends}".encode())
        async with self.database.transaction() as connection:
            if not await connection.fetchval("SELECT 1 FROM project WHERE id = $1", project):
                await connection.execute(PROJECT, project)
            await connection.execute(
                INSERT,
                project,
                staging,
                kind,
                identity,
                begins,
                ends,
                NOW if revoked else None,
            )
        return identity

    async def renew(self, project: str, ends: datetime) -> None:
        async with self.database.transaction() as connection:
            await connection.execute("DELETE FROM certificate WHERE project_id = $1", project)
        await self.add(project, ends)

    async def rows(self) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT entry, event, event_subject FROM outbox ORDER BY position"
            )
        return [(json.loads(row[0]), json.loads(row[1]), row[2]) for row in rows]

    async def said(self) -> list[tuple[str, int]]:
        """Return of whose it has been said how many days ahead."""
        return [(event["owner"], event.get("days_ahead", 0)) for _, event, _ in await self.rows()]


@pytest.fixture
async def projects(place: Place) -> AsyncIterator[Projects]:
    database = await Database.open(place.settings(Settings), Service.ACME)
    yield Projects(database)
    await database.close()


@pytest.mark.parametrize("kind", ["letsencrypt", "custom"])
async def test_each_is_announced_once_for_each_number_of_days(
    projects: Projects, kind: str
) -> None:
    end = NOW + 40 * DAY
    await projects.add("shop", end, kind=kind)
    expiry = projects.expiry()
    for days in (40, 31, 30, 29, 8, 7, 6, 2, 1, 0.5, 0, -1, -40):
        for _ in range(2):
            await expiry.look(end - days * DAY)
    assert await projects.said() == [("shop", 30), ("shop", 7), ("shop", 1), ("shop", 0)]


@pytest.mark.parametrize(("kind", "named"), [("letsencrypt", "acme"), ("custom", "uploaded")])
async def test_an_announcement_says_whose_ends_and_when(
    projects: Projects, kind: str, named: str
) -> None:
    identity = await projects.add("shop", NOW + 7 * DAY, kind=kind)
    await projects.expiry().look(NOW)
    entry, event, subject = (await projects.rows())[-1]
    assert subject == "certwire.events.certificate.expiring"
    assert (event["days_ahead"], event["days_left"]) == (7, 7)
    assert (event["kind"], event["owner"], event["fingerprint"]) == (named, "shop", identity)
    assert (event["subject"], event["issuer"], event["serial_hex"]) == ("CN=shop", "CN=CA", "a1")
    assert (entry["service"], entry["action"]) == ("acme", "cert_expiring")
    assert (entry["actor"]["kind"], entry["actor"]["id"]) == ("system", "acme")
    assert entry["object"] == {
        "type": "certificate",
        "id": identity,
        "name": "shop.example.com",
        "organization_id": None,
    }
    assert entry["detail"]["kind"] == named
    await projects.expiry().look(NOW + 8 * DAY)
    entry, event, subject = (await projects.rows())[-1]
    assert (entry["action"], subject) == ("cert_expired", "certwire.events.certificate.expired")


async def test_replicas_announce_nothing_twice(
    projects: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    for number in range(10):
        await projects.add(f"p{number}", NOW + DAY / 2)  # all at the same moment
    replicas = [projects.expiry() for _ in range(4)]
    for _ in range(3):
        await asyncio.gather(*(replica.look(NOW) for replica in replicas))
    said = await projects.said()
    assert len(said) == len(set(said)) == 30


async def test_what_is_no_news_is_not_announced(projects: Projects) -> None:
    await projects.add("revoked", NOW + DAY / 2, revoked=True)
    await projects.add("staging", NOW + DAY / 2, staging=True)
    await projects.add("ended-before-the-first-look", NOW - DAY)
    await projects.add("six-days", NOW + 5 * DAY, begins=NOW - DAY)
    await projects.add("ten-days", NOW + 5 * DAY, begins=NOW - 5 * DAY)
    await projects.expiry().look(NOW)
    assert await projects.said() == [("ten-days", 7)]


async def test_of_what_was_renewed_in_time_nothing_is_said(projects: Projects) -> None:
    end = NOW + 40 * DAY
    await projects.add("shop", end)
    await projects.expiry().look(end - 31 * DAY)
    await projects.renew("shop", end + 60 * DAY)
    for days in (30, 7, 1, 0):
        await projects.expiry().look(end - days * DAY)
    assert await projects.said() == []
    await projects.expiry().look(end + 60 * DAY - 30 * DAY)
    assert await projects.said() == [("shop", 30)]


async def test_an_upload_that_ends_soon_is_announced_from_then_on(projects: Projects) -> None:
    """It is told of the days that are still to come: the uploader has been warned of the rest."""
    await projects.expiry().look(NOW)
    await projects.add("shop", NOW + 5 * DAY, kind="custom")
    await projects.expiry().look(NOW + 4.5 * DAY)
    await projects.expiry().look(NOW + 6 * DAY)
    assert await projects.said() == [("shop", 1), ("shop", 0)]


async def test_many_certificates_are_not_gone_through(projects: Projects) -> None:
    async with projects.database.transaction() as connection:
        await connection.execute(FILL_PROJECTS, 3_000)
        await connection.execute(FILL, 3_000)
        await connection.execute("ANALYZE certificate")
        since = NOW + 50 * DAY
        plan = await plan_of(connection, expiring.ENDING, since, 0, since + DAY / 24, 0, 500)
    assert not plan.read_whole, plan
    assert plan.rows_read <= 10, plan
    assert plan.rows_sorted <= 10, plan
