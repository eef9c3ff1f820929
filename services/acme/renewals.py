"""Certificates that never lapse: when each is renewed, and who begins it.

1. A certificate is stored with the time of its renewal, by its lifetime and with jitter.
2. Where the CA says when (RFC 9773), it is asked again and again, and its window counts.
3. Every replica looks what is due, the most urgent first. A bucket of each CA, in the database,
   says how many may begin: all replicas take from it.
4. A renewal is an order like any other. Where it fails, it says when it is tried again.
"""

import asyncio
import logging
from datetime import timedelta
from typing import Final

from contracts.acme import OrderKind
from contracts.audit import AuditObject
from services.acme import metrics
from services.acme.beginning import begin, issuance_of
from services.acme.client import AcmeProblem, CaMisbehaves, CaUnavailable
from services.acme.domain.renewal import time_in_window
from services.acme.service import Acme
from services.acme.store import accounts, certificates, projects, schedule
from services.acme.store.schedule import AriQuestion
from shared import outbox
from shared.database import Connection
from shared.identifiers import uuid7
from shared.secrets import UnsealError

LOG: Final = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
BATCH: Final = 50
"""Renewals that one transaction begins."""
GUARD: Final = timedelta(hours=6)
"""Longer than any order goes on; its end says when to look again."""
ARI_BATCH: Final = 20
"""Questions that are asked at the same time."""
ARI_LEASE: Final = timedelta(minutes=10)
ARI_TROUBLE: Final = timedelta(hours=6)
"""RFC 9773 section 4.3.3: when a CA is asked again that did not answer."""


class Renewals:
    """The schedule of one replica."""

    def __init__(self, acme: Acme) -> None:
        self._acme = acme

    async def run(self) -> None:
        """Begin what is due, for as long as the process lives."""
        while True:
            for staging in (False, True):
                while await self.begin_due(staging=staging) == BATCH:
                    pass
            await asyncio.sleep(LOOK_SECONDS)

    async def begin_due(self, *, staging: bool) -> int:
        """Begin renewals that are due at a CA, as many as its bucket has; return how many were due.

        Where an order of the project goes on already, it is that one's.
        """
        acme, settings = self._acme, self._acme.settings
        if acme.runtime.backlog.full:
            return 0
        directory = settings.directory(staging=staging)
        begun = 0
        async with acme.runtime.database.transaction() as connection:
            room = await accounts.lend(connection, directory, settings.acme_renewals_per_hour)
            found = (
                await schedule.due(connection, staging=staging, limit=min(room, BATCH))
                if room
                else []
            )
            for certificate_id in found:
                begun += await self._begun(certificate_id, connection)
            if begun:
                await accounts.take(connection, directory, begun)
        if begun:
            metrics.BEGUN.labels(metrics.directory_kind(staging=staging)).inc(begun)
            acme.orders_waiting.set()
            acme.runtime.backlog.nudge()
        return len(found)

    async def _begun(self, certificate_id: int, connection: Connection) -> bool:
        """Begin a renewal; one that cannot be begun keeps no other one waiting."""
        try:
            async with connection.transaction():
                return await self._begin(certificate_id, connection)
        except (UnsealError, ValueError):
            LOG.exception("a renewal cannot be begun", extra={"certificate": certificate_id})
            await schedule.not_begun(connection, certificate_id, GUARD, "Internal error")
            return False

    async def _begin(self, certificate_id: int, connection: Connection) -> bool:
        acme = self._acme
        certificate = await certificates.get(connection, certificate_id)
        assert certificate is not None  # noqa: S101 - it is locked
        if not await projects.pin(connection, certificate.project_id):
            return False  # at the next look
        await schedule.begun(connection, certificate_id, GUARD)
        request_id = str(uuid7())
        order = await begin(
            acme,
            connection,
            OrderKind.RENEW,
            certificate.project_id,
            certificate.domain,
            issuance_of(acme, certificate),
            waits=False,
            actor=acme.runtime.principal,
            request_id=request_id,
            renewed=certificate,
        )
        if order is None:
            return False
        row = outbox.outbox_row(
            acme.runtime.service,
            request_id,
            acme.runtime.principal,
            "order_create",
            AuditObject(type="project", id=certificate.project_id, name=certificate.domain),
            detail={"order_id": str(order.id), "kind": order.kind, "domain": order.domain},
        )
        await outbox.append(connection, [row])
        return True

    # --- Renewal information (RFC 9773) ----------------------------------------------------------

    async def ask(self) -> None:
        """Ask CAs when their certificates are to be renewed, for as long as the process lives."""
        while True:
            while await self.ask_some():
                pass
            await asyncio.sleep(LOOK_SECONDS)

    async def ask_some(self) -> int:
        """Ask about some certificates; return about how many."""
        async with self._acme.runtime.database.statement() as connection:
            questions = await schedule.claim_ari(connection, ARI_LEASE, ARI_BATCH)
        await asyncio.gather(*map(self._ask, questions))
        return len(questions)

    async def _ask(self, question: AriQuestion) -> None:
        acme = self._acme
        client = acme.client(acme.settings.directory(staging=question.staging))
        try:
            window = await client.renewal_info(question.ari_id)
        except ValueError:  # `NotOfferedError`, or a name that ARI has no room for
            async with acme.runtime.database.statement() as connection:
                await schedule.no_ari(connection, question.id)
            return
        except (AcmeProblem, CaMisbehaves, CaUnavailable) as problem:
            seen = {"certificate": question.id, "problem": str(problem)}
            LOG.warning("the CA does not say when to renew", extra=seen)
            said = getattr(problem, "retry_after_seconds", None)
            again = timedelta(seconds=said) if said else ARI_TROUBLE
            async with acme.runtime.database.statement() as connection:
                await schedule.ari_later(connection, question.id, again)
            return
        chosen = time_in_window(window.start, window.end, acme.share())
        again = timedelta(seconds=window.retry_after_seconds)
        async with acme.runtime.database.statement() as connection:
            await schedule.ari_said(
                connection, question.id, again, window.start, window.end, chosen
            )
