"""What the administrator sees of ACME certificates, and what CAs ask for."""

from datetime import UTC, datetime
from typing import Final

from contracts.acme import (
    DomainCertificate,
    DomainCertificatePage,
    GetHttpChallenge,
    GetRenewalSchedule,
    HttpChallenge,
    ListDomainCertificates,
    RenewalSchedule,
)
from contracts.errors import CertwireError, ErrorCode
from services.acme.domain.permissions import authorise
from services.acme.service import Acme
from services.acme.store import certificates, challenges, schedule
from shared import cursors

LAST_SECOND: Final = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
"""No certificate lives longer, and they end at whole seconds (RFC 5280 section 4.1.2.5)."""


async def list_domain_certificates(
    command: ListDomainCertificates, acme: Acme
) -> DomainCertificatePage:
    """Return a page of ACME certificates, those that end first in front."""
    authorise(command.actor, command)
    seconds, last_id = cursors.decode_all(command.cursor, 2) if command.cursor else (0, 0)
    after = datetime.fromtimestamp(min(seconds, LAST_SECOND), UTC), last_id
    async with acme.runtime.database.connection() as connection:
        found = await certificates.page(connection, after, command.limit + 1)
    shown = found[: command.limit]
    following = None
    if len(found) > len(shown):
        following = cursors.encode_all(int(shown[-1].not_after.timestamp()), shown[-1].id)
    return DomainCertificatePage(
        certificates=tuple(
            DomainCertificate(
                domain=each.domain,
                expires_at=each.not_after,
                revoked=each.revoked,
                path=str(acme.live.path_of(each.domain)),
            )
            for each in shown
        ),
        next_cursor=following,
    )


async def get_renewal_schedule(command: GetRenewalSchedule, acme: Acme) -> RenewalSchedule:
    """Say when the next certificate is renewed, and when one was last."""
    authorise(command.actor, command)
    async with acme.runtime.database.connection() as connection:
        next_run, last_run = await schedule.schedule(connection)
    active = acme.settings.acme_auto_renew
    return RenewalSchedule(active=active, next_run=next_run if active else None, last_run=last_run)


async def get_http_challenge(command: GetHttpChallenge, acme: Acme) -> HttpChallenge:
    """Return what answers an http-01 challenge."""
    async with acme.runtime.database.connection() as connection:
        found = await challenges.find(connection, command.token)
    if found is None:
        raise CertwireError(ErrorCode.NOT_FOUND, "Not found")
    return HttpChallenge(key_authorization=found)
