"""The issuer: what it answers, and what it does by itself."""

from collections.abc import Awaitable, Callable
from typing import Any

from contracts.issuer import (
    GenerateAdminBundle,
    GenerateAgentBundle,
    GetPlatformCa,
    RevokeInstanceCertificates,
    RevokeRegistryCertificates,
    SignAdminCertificate,
    SignAgentCertificate,
    SignGatewayCertificate,
    SignInstanceCertificate,
    VoidInstanceClaims,
    VoidRegistryClaims,
)
from contracts.messages import Command, Message
from contracts.subjects import Service
from services.issuer import handlers, store
from services.issuer.authorities import Authorities
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from shared.group_commit import GroupCommit
from shared.runtime import Application, Runtime, bind

HANDLERS: dict[type[Command[Any]], Callable[[Any, Any], Awaitable[Message]]] = {
    SignInstanceCertificate: handlers.sign_instance_certificate,
    SignAgentCertificate: handlers.sign_agent_certificate,
    SignAdminCertificate: handlers.sign_admin_certificate,
    SignGatewayCertificate: handlers.sign_gateway_certificate,
    GenerateAdminBundle: handlers.generate_admin_bundle,
    GenerateAgentBundle: handlers.generate_agent_bundle,
    RevokeInstanceCertificates: handlers.revoke_instance_certificates,
    RevokeRegistryCertificates: handlers.revoke_registry_certificates,
    VoidInstanceClaims: handlers.void_instance_claims,
    VoidRegistryClaims: handlers.void_registry_claims,
    GetPlatformCa: handlers.get_platform_ca,
}


async def open_issuer(settings: IssuerSettings) -> Issuer:
    """Return the issuer, its CAs not loaded yet."""
    runtime = await Runtime.open(Service.ISSUER, settings)
    authorities = Authorities(settings, runtime.database)
    issuance = GroupCommit("issuer.issue", runtime.database, store.issue)
    return Issuer(runtime, settings, authorities, issuance)


async def build(settings: IssuerSettings) -> Application:
    """Put the service together."""
    issuer = await open_issuer(settings)
    return Application(
        issuer.runtime,
        bind(HANDLERS, issuer),
        direct=frozenset({SignInstanceCertificate}),
        prepare=issuer.authorities.load,
        background=(issuer.authorities.follow,),
        problems=issuer.authorities.problems,
        warnings=issuer.warnings,
    )
