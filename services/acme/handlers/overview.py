"""What the administrator sees of ACME certificates, and what CAs ask for."""

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


async def list_domain_certificates(
    command: ListDomainCertificates, acme: Acme
) -> DomainCertificatePage:
    """Return a page of ACME certificates."""
    authorise(command.actor, command)
    after = cursors.decode(command.cursor) or 0
    async with acme.runtime.database.connection() as connection:
        found = await certificates.page(connection, after, command.limit + 1)
    shown = found[: command.limit]
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
        next_cursor=cursors.encode(shown[-1].id if len(found) > len(shown) else None),
    )


async def get_renewal_schedule(command: GetRenewalSchedule, acme: Acme) -> RenewalSchedule:
    """Say when the next certificate is renewed, and when one was last."""
    authorise(command.actor, command)
    async with acme.runtime.database.connection() as connection:
        next_run, last_run = await schedule.schedule(connection)
    return RenewalSchedule(
        active=acme.settings.acme_auto_renew, next_run=next_run, last_run=last_run
    )


async def get_http_challenge(command: GetHttpChallenge, acme: Acme) -> HttpChallenge:
    """Return what answers an http-01 challenge."""
    async with acme.runtime.database.connection() as connection:
        found = await challenges.find(connection, command.token)
    if found is None:
        raise CertwireError(ErrorCode.NOT_FOUND, "Not found")
    return HttpChallenge(key_authorization=found)
