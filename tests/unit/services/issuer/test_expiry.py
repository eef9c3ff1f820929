"""Certificates that end are announced: once each, by whatever replica, after whatever outage."""

import asyncio
import json
import secrets
from datetime import datetime, timedelta
from typing import Any

import pytest

from contracts.subjects import Service
from services.issuer.expiry import KINDS, ending
from services.issuer.service import Issuer
from services.issuer.store import expiring
from shared import expiry as module
from shared.clock import utc_now
from shared.database import Database
from shared.expiry import Expiry
from shared.outbox import Backlog
from tests.support.inventory import fill, superuser
from tests.support.plans import plan_of, slowest
from tests.support.servers import PostgresServer

NOW = utc_now()
DAY = timedelta(days=1)
INSERT = """
INSERT INTO issuer.certificate (ca_id, serial_hex, fingerprint, kind, owner_service, owner_id,
    subject, subject_alternative_names, public_key_sha256, certificate, not_before, not_after,
    created_at, revoked_at, revocation_reason, common_name, organization_id)
VALUES (1, $1, $2, $3, 'issuer', '', $4, '{}', '', '', $5, $6, $5, $7,
    CASE WHEN $7::timestamptz IS NOT NULL THEN 'superseded' END, $4, 3)
"""


class Announcements:
    """A database in which certificates end, and what has been announced of them."""

    def __init__(self, issuer: Issuer, postgres: PostgresServer, url: str) -> None:
        self.issuer = issuer
        self._postgres = postgres
        self._url = url

    @property
    def database(self) -> Database:
        return self.issuer.runtime.database

    def expiry(self, backlog: Backlog | None = None) -> Expiry:
        return Expiry(Service.ISSUER, self.database, backlog or Backlog(1000), ending)

    async def add(
        self,
        name: str,
        ends: datetime,
        *,
        begins: datetime = NOW - 400 * DAY,
        kind: str = "server",
        revoked: bool = False,
    ) -> None:
        connection = await superuser(self._postgres, self._url)
        try:
            await connection.execute(
                INSERT,
                secrets.token_hex(16).lstrip("0"),
                secrets.token_hex(32),
                kind,
                name,
                begins,
                ends,
                NOW if revoked else None,
            )
        finally:
            await connection.close()

    async def rows(self) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT entry, event, event_subject FROM outbox"
                " WHERE entry::json->>'action' IN ('cert_expiring', 'cert_expired')"
                " ORDER BY position"
            )
        return [(json.loads(row[0]), json.loads(row[1]), row[2]) for row in rows]

    async def said(self) -> list[tuple[str, int]]:
        """Return of whom it has been said how many days ahead."""
        return [(event["subject"], event.get("days_ahead", 0)) for _, event, _ in await self.rows()]


@pytest.fixture
def announced(issuer: Issuer, postgres: PostgresServer, database_url: str) -> Announcements:
    return Announcements(issuer, postgres, database_url)


async def test_each_is_announced_once_for_each_number_of_days(announced: Announcements) -> None:
    end = NOW + 40 * DAY
    await announced.add("web", end)
    expiry = announced.expiry()
    for days in (40, 31, 30, 29, 8, 7, 6, 2, 1, 0.5, 0, -1, -40):
        for _ in range(2):
            await expiry.look(end - days * DAY)
    assert await announced.said() == [("web", 30), ("web", 7), ("web", 1), ("web", 0)]


async def test_an_announcement_says_what_ends_and_when(announced: Announcements) -> None:
    await announced.add("web", NOW + 7 * DAY)
    await announced.expiry().look(NOW)
    entry, event, subject = (await announced.rows())[-1]
    assert subject == "certwire.events.certificate.expiring"
    assert (event["days_ahead"], event["days_left"], event["kind"]) == (7, 7, "server")
    assert (entry["action"], entry["actor"]["kind"]) == ("cert_expiring", "system")
    assert entry["object"]["type"] == "certificate"
    assert entry["object"]["organization_id"] == 3
    assert entry["detail"]["fingerprint"] == event["fingerprint"]
    await announced.expiry().look(NOW + 8 * DAY)
    entry, event, subject = (await announced.rows())[-1]
    assert (entry["action"], subject) == ("cert_expired", "certwire.events.certificate.expired")


async def test_replicas_announce_nothing_twice(
    announced: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    for number in range(10):
        await announced.add(f"{number}", NOW + DAY / 2)  # all at the same moment
    replicas = [announced.expiry() for _ in range(4)]
    for _ in range(3):
        await asyncio.gather(*(replica.look(NOW) for replica in replicas))
    said = await announced.said()
    assert len(said) == len(set(said)) == 30


async def test_an_outage_delays_and_loses_nothing(announced: Announcements) -> None:
    await announced.expiry().look(NOW)
    await announced.add("web", NOW + 40 * DAY)
    await announced.expiry().look(NOW + 90 * DAY)
    assert await announced.said() == [("web", 30), ("web", 7), ("web", 1), ("web", 0)]
    assert {event.get("days_left", 0) for _, event, _ in await announced.rows()} == {0}


async def test_what_is_no_news_is_not_announced(announced: Announcements) -> None:
    await announced.add("revoked", NOW + DAY / 2, revoked=True)
    await announced.add("instance", NOW + DAY / 2, kind="instance")
    await announced.add("agent", NOW + DAY / 2, kind="agent")
    await announced.add("ended long ago", NOW - DAY)
    await announced.add("for a week", NOW + 5 * DAY, begins=NOW - DAY)
    await announced.add("ca", NOW + 5 * DAY, kind="ca")
    await announced.expiry().look(NOW)
    assert await announced.said() == [("ca", 30), ("ca", 7)]


async def test_a_full_outbox_is_not_filled_further(announced: Announcements) -> None:
    await announced.add("web", NOW + DAY / 2)
    backlog = Backlog(0)
    backlog.waiting = 1
    await announced.expiry(backlog).look(NOW)
    assert await announced.said() == []


async def test_many_certificates_are_not_gone_through(
    announced: Announcements, postgres: PostgresServer, database_url: str
) -> None:
    """A month without a look, and then a minute: what ends then is read, and nothing else."""
    await fill(postgres, database_url, 100_000)
    async with announced.database.connection() as lent:
        for since, most in ((NOW - 30 * DAY, 2000), (NOW - DAY / 1440, 1000)):
            arguments = (since, 0, NOW, KINDS, 0, module.PAGE)
            plan = await plan_of(lent, expiring.ENDING, *arguments)
            assert plan.read_whole <= {"ca"}, plan
            assert plan.rows_read <= most, plan
            assert plan.rows_sorted <= module.PAGE, plan
            assert await slowest(lent, expiring.ENDING, *arguments) < 0.2
