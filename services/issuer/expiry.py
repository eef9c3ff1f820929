"""Announces that certificates end: 30 days, 7 days and a day ahead, and when they have ended.

1. Every replica looks once a minute. What has been announced is a mark in the order of the ends of
   validity, one for each number of days; who holds its lock announces, the others go on.
2. A page of certificates, their events with audit records, and the moved mark are one transaction:
   each is announced once, by any number of replicas, and after any time that none ran.

Revoked certificates are not announced, nor those that live for a day: instances renew them.
"""

import asyncio
import math
from datetime import datetime, timedelta
from typing import Final

from contracts.audit import AuditObject
from contracts.certificates import CertificateKind
from contracts.events import CertificateExpired, CertificateExpiring
from contracts.principal import system
from contracts.subjects import Service
from services.issuer.domain.profiles import USER_KINDS
from services.issuer.store import expiring
from services.issuer.store.expiring import Ending, Mark
from shared import outbox
from shared.clock import rfc3339, utc_now
from shared.database import Database
from shared.identifiers import uuid7
from shared.outbox import Backlog, OutboxRow, outbox_row

LOOK_SECONDS: Final = 60.0
PAGE: Final = 500
KINDS: Final = tuple(sorted({*USER_KINDS, CertificateKind.ROOT_CA, CertificateKind.ISSUING_CA}))
"""Users' certificates and CAs' own; the others' owners renew them."""
_DAY: Final = timedelta(days=1)
_LAST_ID: Final = 2**63 - 1


class Expiry:
    """The announcer of one replica; `announce` is its background work."""

    def __init__(self, database: Database, backlog: Backlog) -> None:
        self._database = database
        self._backlog = backlog

    async def announce(self) -> None:
        """Announce for as long as the process lives."""
        while True:
            await self.look(utc_now())
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, now: datetime) -> None:
        """Announce what there is to announce."""
        async with self._database.connection() as connection:
            ahead = await expiring.days_ahead(connection)
        for days in ahead:
            more = True
            while more and not self._backlog.full:
                more = await self._announce_page(days, now)

    async def _announce_page(self, days: int, now: datetime) -> bool:
        """Announce a page; return whether there may be more."""
        until = now + days * _DAY
        async with self._database.transaction() as connection:
            mark = await expiring.lock(connection, days)
            if mark is None or mark.until >= until:
                return False
            found = await expiring.ending(connection, mark, until, KINDS, days, PAGE)
            if found:
                await outbox.append(connection, [_row(each, days, now) for each in found])
            is_last = len(found) < PAGE
            reached = Mark(until, _LAST_ID) if is_last else Mark(found[-1].not_after, found[-1].id)
            await expiring.move(connection, days, reached)
        self._backlog.nudge()
        return not is_last


def _row(certificate: Ending, days: int, now: datetime) -> OutboxRow:
    facts = {
        "fingerprint": certificate.fingerprint,
        "serial_hex": certificate.serial_hex,
        "kind": CertificateKind(certificate.kind),
        "issuer": certificate.issuer,
        "subject": certificate.subject,
        "owner": certificate.owner_id,
        "not_after": certificate.not_after,
    }
    left = max(0, math.ceil((certificate.not_after - now) / _DAY))
    is_users = certificate.kind in USER_KINDS
    return outbox_row(
        Service.ISSUER,
        str(uuid7()),
        system(Service.ISSUER),
        "cert_expiring" if days else "cert_expired",
        AuditObject(
            type="certificate",
            id=str(certificate.id) if is_users else certificate.fingerprint,
            name=certificate.subject,
            organization_id=certificate.organization_id,
        ),
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
