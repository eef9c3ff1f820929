"""Announces that certificates end: 30 days, 7 days and a day ahead, and when they have ended.

1. Every replica looks once a minute. What has been announced is a mark in the order of the ends of
   validity, one for each number of days; who holds its lock announces, the others go on.
2. A page of certificates, their events with audit records, and the moved mark are one transaction:
   each is announced once, by any number of replicas, and after any time that none ran.

The marks are the table `expiry` of each service that has certificates; which of them there are to
announce is the service's own question.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from contracts.audit import AuditObject
from contracts.certificates import CertificateKind
from contracts.events import CertificateExpired, CertificateExpiring
from contracts.principal import system
from contracts.subjects import Service
from shared import outbox
from shared.clock import rfc3339, utc_now
from shared.database import Connection, Database
from shared.identifiers import uuid7
from shared.outbox import Backlog, OutboxRow, outbox_row

LOOK_SECONDS: Final = 60.0
PAGE: Final = 500
_DAY: Final = timedelta(days=1)
_LAST_ID: Final = 2**63 - 1

_DAYS: Final = "SELECT days FROM expiry ORDER BY days DESC"
_LOCK: Final = """
SELECT announced_until, announced_id FROM expiry WHERE days = $1 FOR UPDATE SKIP LOCKED
"""
_MOVE: Final = "UPDATE expiry SET announced_until = $2, announced_id = $3 WHERE days = $1"


@dataclass(frozen=True, slots=True)
class Mark:
    """Everything up to it has been announced: by the end of validity, then by id."""

    until: datetime
    id: int


@dataclass(frozen=True, slots=True)
class Ending:
    """A certificate that ends; `object` is how audit records name it."""

    id: int
    not_after: datetime
    fingerprint: str
    serial_hex: str
    kind: CertificateKind
    owner: str
    issuer: str
    subject: str
    object: AuditObject


Find: TypeAlias = Callable[[Connection, Mark, datetime, int, int], Awaitable[Sequence[Ending]]]
"""Returns certificates after a mark that end by a time, in the order of their ends and ids.

Then come the number of days ahead, and the most that are returned. Of what lives for fewer days
than that, nobody has to be told so many days ahead.
"""


class Expiry:
    """The announcer of one replica; `announce` is its background work."""

    def __init__(self, service: Service, database: Database, backlog: Backlog, find: Find) -> None:
        self._service = service
        self._database = database
        self._backlog = backlog
        self._find = find

    async def announce(self) -> None:
        """Announce for as long as the process lives."""
        while True:
            await self.look(utc_now())
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, now: datetime) -> None:
        """Announce what there is to announce."""
        async with self._database.connection() as connection:
            ahead = [row["days"] for row in await connection.fetch(_DAYS)]
        for days in ahead:
            more = True
            while more and not self._backlog.full:
                more = await self._announce_page(days, now)

    async def _announce_page(self, days: int, now: datetime) -> bool:
        """Announce a page; return whether there may be more."""
        until = now + days * _DAY
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_LOCK, days)
            mark = Mark(*row) if row is not None else None
            if mark is None or mark.until >= until:
                return False
            found = await self._find(connection, mark, until, days, PAGE)
            if found:
                rows = [_row(self._service, each, days, now) for each in found]
                await outbox.append(connection, rows)
            is_last = len(found) < PAGE
            reached = Mark(until, _LAST_ID) if is_last else Mark(found[-1].not_after, found[-1].id)
            await connection.execute(_MOVE, days, reached.until, reached.id)
        self._backlog.nudge()
        return not is_last


def _row(service: Service, certificate: Ending, days: int, now: datetime) -> OutboxRow:
    facts = {
        "fingerprint": certificate.fingerprint,
        "serial_hex": certificate.serial_hex,
        "kind": certificate.kind,
        "issuer": certificate.issuer,
        "subject": certificate.subject,
        "owner": certificate.owner,
        "not_after": certificate.not_after,
    }
    left = max(0, math.ceil((certificate.not_after - now) / _DAY))
    return outbox_row(
        service,
        str(uuid7()),
        system(service),
        "cert_expiring" if days else "cert_expired",
        certificate.object,
        detail={
            "kind": certificate.kind,
            "fingerprint": certificate.fingerprint,
            "serial_hex": certificate.serial_hex,
            "not_after": rfc3339(certificate.not_after),
            **({"days_ahead": days, "days_left": left} if days else {}),
        },
        event=CertificateExpiring(**facts, days_ahead=days, days_left=left)
        if days
        else CertificateExpired(**facts),
    )
