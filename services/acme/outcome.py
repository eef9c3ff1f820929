"""What becomes of an order: a certificate with its event, or a failure that says why."""

import logging
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import JsonValue

from contracts.acme import CertificateType, Issuance, OrderKind, PublicCertificate
from contracts.audit import AuditObject
from contracts.audit import Outcome as AuditOutcome
from contracts.certificates import CertificateKind
from contracts.events import CertificateIssued, CertificateRenewed, Event, OrderFailed
from services.acme import metrics
from services.acme.client import CaUnavailable, certificate_id
from services.acme.domain.material import Material
from services.acme.domain.orders import OrderFailedError, is_about_name, without_credentials
from services.acme.domain.renewal import renewal_time, retry_time
from services.acme.keys import private_der
from services.acme.leases import holding
from services.acme.service import Acme
from services.acme.store import accounts, certificates, challenges, dns_records, orders, projects
from services.acme.store.certificates import CertificateRow, NewCertificate
from services.acme.store.orders import OrderRow
from services.acme.store.sealed import CERTIFICATE_CREDENTIALS, CERTIFICATE_KEY
from shared import outbox
from shared.clock import rfc3339
from shared.database import Connection, clock

LOG: Final = logging.getLogger(__name__)

PAUSE_MOST_SECONDS: Final = 3600
"""A CA that wants a longer pause speaks of one name or account, not of itself."""


class Outcome:
    """Ends orders."""

    def __init__(self, acme: Acme) -> None:
        self._acme = acme

    # --- There is a certificate ------------------------------------------------------------------

    async def record(
        self,
        order: OrderRow,
        lease: UUID,
        material: Material,
        issuance: Issuance,
        *,
        offers_ari: bool,
    ) -> None:
        """Commit certificate, event and audit record; the answers to challenges end with it.

        It takes the place of the one that the project has. Staging's does not where there is
        another, and what a dry run gives is not kept at all.
        """
        async with holding(self._acme, order.id, lease) as connection:
            await projects.lock(connection, order.project_id)  # before its certificate, as all do
            live = await certificates.of_kind(connection, order.project_id, staging=False)
            is_kept = order.kind is not OrderKind.DRY_RUN and not (order.staging and live)
            new = await self._new_certificate(
                connection, order, material, issuance, offers_ari=offers_ari
            )
            if is_kept:
                former = live
                if order.staging:
                    former = await certificates.of_kind(connection, order.project_id, staging=True)
                await self._replace(connection, order, new, former)
            else:
                await self._append(
                    connection, order, "order_try", _facts(material, order), event=None
                )
            shown = new.shown(await clock(connection))
            await _end_answers(connection, order)
            await orders.set_result(connection, order.id, shown)
            ended = None
            if not self._acme.live.is_kept:
                ended = await orders.end(connection, order.id, result=shown)
        if ended is not None:
            metrics.order_ended(ended)
        self._nudge()

    async def deliver(self, order: OrderRow, lease: UUID) -> None:
        """Write the files of this replica where it has them, and end the order."""
        if not self._acme.live.is_kept:
            if order.result is None:
                return  # it ended with its record
            warning = None
        elif order.kind is OrderKind.DRY_RUN or order.staging:
            warning = None
        else:
            warning = await self._acme.live.deliver(order.domain)
        async with holding(self._acme, order.id, lease) as connection:
            row = await orders.get(connection, order.id)
            assert row is not None  # noqa: S101 - it is locked
            assert row.result is not None  # noqa: S101 - it was recorded
            if warning is not None:
                await orders.warn(connection, order.id, warning)
            ended = await orders.end(
                connection,
                order.id,
                result=PublicCertificate.model_validate_json(row.result),
            )
        metrics.order_ended(ended)

    async def _new_certificate(
        self,
        connection: Connection,
        order: OrderRow,
        material: Material,
        issuance: Issuance,
        *,
        offers_ari: bool,
    ) -> NewCertificate:
        new_id = await certificates.new_id(connection)
        text, credentials = without_credentials(issuance)
        now = await clock(connection)
        renews_itself = issuance.auto_renew
        ari_id = certificate_id(material.leaf) if offers_ari else None
        return NewCertificate(
            id=new_id,
            project_id=order.project_id,
            staging=order.staging,
            type=CertificateType.LETSENCRYPT,
            domain=order.domain,
            names=material.names,
            fingerprint=material.fingerprint,
            serial_hex=material.serial_hex,
            subject=material.subject,
            issuer=material.issuer,
            issuer_common_name=material.issuer_common_name,
            issuer_organization=material.issuer_organization,
            not_before=material.not_before,
            not_after=material.not_after,
            chain_pem=material.chain_pem,
            sealed_key=self._acme.sealer.seal(
                private_der(material.key), CERTIFICATE_KEY.row(new_id)
            ),
            account_id=order.account_id,
            issuance=text,
            sealed_credentials=(
                self._acme.sealer.seal(credentials, CERTIFICATE_CREDENTIALS.row(new_id))
                if credentials is not None
                else None
            ),
            ari_id=ari_id,
            ari_check_at=now if ari_id is not None and renews_itself else None,
            renew_at=(
                renewal_time(material.not_before, material.not_after, self._acme.share())
                if renews_itself
                else None
            ),
            last_renew_attempt=order.created_at if order.kind is OrderKind.RENEW else None,
        )

    async def _replace(
        self,
        connection: Connection,
        order: OrderRow,
        new: NewCertificate,
        former: CertificateRow | None,
    ) -> None:
        await certificates.remove(connection, order.project_id, staging=order.staging)
        if not order.staging:
            await certificates.remove(connection, order.project_id, staging=True)
        await certificates.insert(connection, new)
        detail: dict[str, JsonValue] = {
            "domain": new.domain,
            "names": list(new.names),
            "serial_hex": new.serial_hex,
            "issuer": new.issuer,
            "not_after": rfc3339(new.not_after),
            "staging": new.staging,
            "order_id": str(order.id),
        }
        if former is not None:
            detail["renews"] = former.fingerprint
        facts = {
            "fingerprint": new.fingerprint,
            "serial_hex": new.serial_hex,
            "kind": CertificateKind.ACME,
            "issuer": new.issuer,
            "subject": new.subject,
            "owner": new.project_id,
            "not_before": new.not_before,
            "not_after": new.not_after,
        }
        event: Event | None = None
        if not new.staging:  # nobody trusts staging's: it is no news to anybody
            event = (
                CertificateRenewed(**facts, renews=former.fingerprint)
                if former is not None
                else CertificateIssued(**facts)
            )
        action = "cert_create" if former is None else "cert_renew"
        await self._append(connection, order, action, detail, event=event, about=new)

    # --- There is none ---------------------------------------------------------------------------

    async def fail(
        self,
        order: OrderRow,
        lease: UUID,
        failure: OrderFailedError,
        held_back_seconds: int | None,
    ) -> None:
        """Commit why there is no certificate, and when a renewal is tried again."""
        reply = failure.error().reply()
        async with holding(self._acme, order.id, lease) as connection:
            await projects.lock(connection, order.project_id)  # whoever joins it has done so
            ended = await orders.end(
                connection, order.id, error=reply, held_back_seconds=held_back_seconds
            )
            await _end_answers(connection, order)
            await orders.forget_answers(connection, order.id)  # only successes are kept
            retry_at = await self._next_renewal(connection, order, failure, held_back_seconds)
            event = OrderFailed(
                order_id=order.id,
                project_id=order.project_id,
                domain=order.domain,
                kind=order.kind,
                reason=failure.in_full,
                retry_at=retry_at,
            )
            detail: dict[str, JsonValue] = {
                "domain": order.domain,
                "kind": order.kind,
                "reason": failure.in_full,
            }
            await self._append(connection, order, "order_fail", detail, event=event)
        metrics.order_ended(ended)
        self._nudge()

    async def _next_renewal(
        self,
        connection: Connection,
        order: OrderRow,
        failure: OrderFailedError,
        held_back_seconds: int | None,
    ) -> datetime | None:
        if order.kind is not OrderKind.RENEW:
            return None
        current = await certificates.of_kind(connection, order.project_id, staging=order.staging)
        if current is None:
            return None
        failures = current.failures + 1
        next_at = retry_time(
            current.looked_at,
            failures,
            current.not_after - current.not_before,
            self._acme.share(),
            timedelta(seconds=held_back_seconds or 0),
        )
        await certificates.renewal_failed(
            connection, current.id, failures, failure.in_full, next_at
        )
        return next_at if current.renew_at is not None else None

    async def pause(self, order: OrderRow, problem: CaUnavailable) -> None:
        """Leave the CA alone for as long as it wants, where that is about the CA itself."""
        seconds = problem.retry_after_seconds
        if seconds is None or seconds > PAUSE_MOST_SECONDS:
            return
        if is_about_name(order.domain, problem.reason):
            return
        per_hour = self._acme.settings.acme_renewals_per_hour
        async with self._acme.runtime.database.statement() as connection:
            await accounts.pause(connection, order.directory, seconds, problem.reason, per_hour)

    # --- Both ------------------------------------------------------------------------------------

    async def _append(
        self,
        connection: Connection,
        order: OrderRow,
        action: str,
        detail: dict[str, JsonValue],
        *,
        event: Event | None,
        about: NewCertificate | None = None,
    ) -> None:
        is_failure = isinstance(event, OrderFailed)
        row = outbox.outbox_row(
            self._acme.runtime.service,
            order.request_id,
            order.actor,
            action,
            AuditObject(type="certificate", id=about.fingerprint, name=about.domain)
            if about is not None
            else AuditObject(type="order", id=str(order.id), name=order.domain),
            outcome=AuditOutcome.FAILED if is_failure else AuditOutcome.SUCCESS,
            detail={**detail, "project_id": order.project_id},
            event=event,
        )
        await outbox.append(connection, [row])

    def _nudge(self) -> None:
        self._acme.runtime.backlog.nudge()
        self._acme.records_waiting.set()


async def _end_answers(connection: Connection, order: OrderRow) -> None:
    await challenges.forget_of_order(connection, order.id)
    await dns_records.end(connection, order.id)


def _facts(material: Material, order: OrderRow) -> dict[str, JsonValue]:
    return {
        "domain": order.domain,
        "issuer": material.issuer,
        "not_after": rfc3339(material.not_after),
        "kind": order.kind,
    }
