"""Searches among all certificates."""

from datetime import datetime, timedelta
from typing import Final

from contracts.pki import CertificatePage, CertificateStatus, SearchCertificates
from contracts.principal import Role
from services.issuer import views
from services.issuer.domain.inventory import (
    Order,
    common_name_condition,
    instance_common_name,
    position,
    possible_names,
)
from services.issuer.domain.permissions import user_id
from services.issuer.service import Issuer
from services.issuer.store import inventory
from services.issuer.store.inventory import Search
from shared.clock import utc_now

PAGE_OCTETS: Final = 1024 * 1024
"""In DER: with PEM, names and everything else it stays below `max_payload` (8 MB)."""
_TICK: Final = timedelta(microseconds=1)


async def search_certificates(command: SearchCertificates, issuer: Issuer) -> CertificatePage:
    """Return a page of the certificates that the actor may see and that meet every condition."""
    now = utc_now()
    asked = search_of(command, now)
    async with issuer.runtime.database.transaction() as connection:
        found, last = await inventory.search(connection, asked)
    return CertificatePage(
        certificates=tuple(views.of_kept(kept, now) for kept in found),
        next_cursor=last.cursor() if last is not None else None,
    )


def search_of(command: SearchCertificates, now: datetime) -> Search:
    """Return what the command asks for. Raises `FORBIDDEN` and `INVALID_REQUEST`."""
    actor, status = command.actor, command.status
    whole, pattern = common_name_condition(command.common_name)
    ends_from, ends_until = command.expires_after, command.expires_before
    if status is CertificateStatus.VALID:
        ends_from = max(ends_from or now, now)
    if status is CertificateStatus.EXPIRED:
        ends_until = min(ends_until or now - _TICK, now - _TICK)
    order = Order.NEWEST
    if ends_from is not None or ends_until is not None:
        order = Order.LATEST if status is CertificateStatus.EXPIRED else Order.SOONEST
    return Search(
        everything=actor.role is Role.SUPERUSER,
        of_organization_id=actor.organization_id,
        of_user_id=user_id(actor),
        order=order,
        after=position(command.cursor, order),
        common_name=whole,
        common_name_like=pattern,
        names=possible_names(command.san) if command.san is not None else None,
        instance_common_name=instance_common_name(command.san) if command.san else None,
        serial_hex=command.serial_hex,
        fingerprint=command.fingerprint,
        is_revoked=None if status is None else status is CertificateStatus.REVOKED,
        kind=command.certificate_type,
        ca_id=command.issuer_id,
        organization_id=command.organization_id,
        ends_from=ends_from,
        ends_until=ends_until,
        limit=command.limit,
        octets=PAGE_OCTETS,
    )
