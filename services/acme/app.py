"""The acme service: which command is answered by what, and what goes on by itself."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from contracts.acme import (
    CheckIssuance,
    CreateProject,
    DeleteProject,
    DownloadCertificate,
    GetHttpChallenge,
    GetOrder,
    GetPrivateKey,
    GetProject,
    GetPublicCertificate,
    GetRenewalSchedule,
    ListDomainCertificates,
    ListOrders,
    ListProjects,
    ObtainCertificate,
    RemoveCertificate,
    RemoveDomain,
    RenewDomain,
    RenewPublicCertificate,
    RevokePublicCertificate,
    SetDomain,
    UploadCertificate,
    ValidateCertificate,
)
from contracts.kek import KEK_COMMANDS
from contracts.messages import Command, Message
from contracts.subjects import Service
from services.acme import condition, metrics
from services.acme.answers import Answers
from services.acme.client import http_client
from services.acme.expiry import ending
from services.acme.handlers import certificates, orders, overview, preflight, projects
from services.acme.ordering import Ordering
from services.acme.renewals import Renewals
from services.acme.service import Acme
from services.acme.settings import AcmeSettings
from services.acme.store.sealed import SEALED
from services.acme.workers import Workers
from shared import rewrapping
from shared.expiry import Expiry
from shared.runtime import Application, Background, Runtime, bind

HANDLERS: Final[Mapping[type[Command[Any]], Callable[[Any, Any], Awaitable[Message]]]] = {
    ListProjects: projects.list_projects,
    CreateProject: projects.create_project,
    GetProject: projects.get_project,
    DeleteProject: projects.delete_project,
    SetDomain: projects.set_domain,
    RemoveDomain: projects.remove_domain,
    GetPublicCertificate: certificates.get_certificate,
    DownloadCertificate: certificates.download_certificate,
    GetPrivateKey: certificates.get_private_key,
    ValidateCertificate: certificates.validate_certificate,
    UploadCertificate: certificates.upload_certificate,
    RevokePublicCertificate: certificates.revoke_certificate,
    RemoveCertificate: certificates.remove_certificate,
    ObtainCertificate: orders.obtain_certificate,
    RenewPublicCertificate: orders.renew_certificate,
    RenewDomain: orders.renew_domain,
    GetOrder: orders.get_order,
    CheckIssuance: preflight.check_issuance,
    ListOrders: orders.list_orders,
    GetHttpChallenge: overview.get_http_challenge,
    ListDomainCertificates: overview.list_domain_certificates,
    GetRenewalSchedule: overview.get_renewal_schedule,
    **rewrapping.handlers(KEK_COMMANDS[Service.ACME], SEALED),
}


async def open_acme(settings: AcmeSettings) -> Acme:
    """Return what the service works with."""
    runtime = await Runtime.open(Service.ACME, settings)
    return Acme(runtime, settings, http_client(settings.acme_ca_bundle))


async def build(settings: AcmeSettings) -> Application:
    """Return the service, ready to run."""
    return application(await open_acme(settings))


def application(acme: Acme) -> Application:
    """Return the application of a service."""
    answers = Answers(acme)
    workers = Workers(acme, Ordering(acme, answers))
    renewals = Renewals(acme)
    by_itself: list[Background] = [
        workers.run,
        workers.prune,
        partial(metrics.watch, acme.runtime.database),
        answers.remove,
        renewals.ask,
        Expiry(Service.ACME, acme.runtime.database, acme.runtime.backlog, ending).announce,
    ]
    if acme.settings.acme_auto_renew:
        by_itself.append(renewals.run)
    if acme.live.is_kept:
        by_itself.append(acme.live.fill)
    return Application(
        acme.runtime,
        bind(HANDLERS, acme),
        background=tuple(by_itself),
        warnings=partial(_warnings, acme),
        finish=acme.close,
    )


async def _warnings(acme: Acme) -> list[str]:
    return [*await condition.warnings(acme.runtime.database), *await acme.live.warnings()]
