"""An issuer on a database of the test's own, without NATS."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from services.issuer.app import open_issuer
from services.issuer.bootstrap import create_platform_ca
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from shared.x509 import fingerprint
from tests.support.servers import Place
from tests.unit.services.issuer.builders import PUBLIC_URL

OUR_OWN = ("root_ca", "issuing_ca", "ocsp_responder")


@pytest.fixture
def settings(place: Place) -> IssuerSettings:
    return place.settings(IssuerSettings, public_url=PUBLIC_URL)


@pytest.fixture
async def issuer(settings: IssuerSettings) -> AsyncIterator[Issuer]:
    """An issuer that has its CAs."""
    await create_platform_ca(settings)
    issuer = await open_issuer(settings)
    await issuer.authorities.load()
    yield issuer
    await issuer.runtime.close()


@dataclass
class Records:
    """What the issuer has written down."""

    issuer: Issuer

    async def rows(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.issuer.runtime.database.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows

    async def certificates(self) -> list[asyncpg.Record]:
        """Return the certificates that others asked for, after checking what holds for all."""
        rows = await self.rows("SELECT * FROM certificate ORDER BY id")
        for row in rows:
            assert row["fingerprint"] == fingerprint(row["certificate"])
        return [row for row in rows if row["kind"] not in OUR_OWN]

    async def outbox(self, action: str = "cert_%") -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return audit entries and events about leaves, in order."""
        rows = await self.rows(
            "SELECT entry, event, event_subject FROM outbox"
            " WHERE entry::json ->> 'action' LIKE $1 AND entry::json -> 'actor' ->> 'id' <> 'init'"
            " ORDER BY position",
            action,
        )
        return [
            (
                json.loads(row["entry"]),
                {"subject": row["event_subject"], **json.loads(row["event"] or "{}")},
            )
            for row in rows
        ]


@pytest.fixture
def records(issuer: Issuer) -> Records:
    return Records(issuer)
