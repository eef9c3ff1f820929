"""The issuer: what it answers, and what it does by itself."""

from collections.abc import Awaitable, Callable
from typing import Any

from contracts.errors import ErrorCode
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
from contracts.kek import KEK_COMMANDS
from contracts.messages import Command, Message
from contracts.pki import (
    AnswerOcsp,
    CreateCa,
    CreateCertificate,
    DeleteCa,
    DeleteGrant,
    GetCa,
    GetCaCertificate,
    GetCaChain,
    GetCaPrivateKey,
    GetCertificate,
    GetCertificateChain,
    GetCertificatePrivateKey,
    GetCrl,
    ListCaChildren,
    ListCas,
    ListCertificates,
    ListGrants,
    PutGrant,
    RetireCa,
    RevokeCertificate,
    RotateCa,
    SearchCertificates,
    SignCsr,
)
from contracts.subjects import Service
from services.issuer.authorities import Authorities
from services.issuer.crl import Crls
from services.issuer.expiry import ending
from services.issuer.handlers import cas, certificates, grants, inventory, platform, status
from services.issuer.key_backends import KeyBackends
from services.issuer.key_pool import Keys
from services.issuer.ocsp import Responders
from services.issuer.service import Issuer
from services.issuer.settings import IssuerSettings
from services.issuer.store import signed
from services.issuer.store.cas import visit
from services.issuer.store.sealed import SEALED
from shared import rewrapping
from shared.expiry import Expiry
from shared.group_commit import GroupCommit
from shared.runtime import Application, Runtime, bind

HANDLERS: dict[type[Command[Any]], Callable[[Any, Any], Awaitable[Message]]] = {
    SignInstanceCertificate: platform.sign_instance_certificate,
    SignAgentCertificate: platform.sign_agent_certificate,
    SignAdminCertificate: platform.sign_admin_certificate,
    SignGatewayCertificate: platform.sign_gateway_certificate,
    GenerateAdminBundle: platform.generate_admin_bundle,
    GenerateAgentBundle: platform.generate_agent_bundle,
    RevokeInstanceCertificates: platform.revoke_instance_certificates,
    RevokeRegistryCertificates: platform.revoke_registry_certificates,
    VoidInstanceClaims: platform.void_instance_claims,
    VoidRegistryClaims: platform.void_registry_claims,
    GetPlatformCa: platform.get_platform_ca,
    CreateCa: cas.create_ca,
    ListCas: cas.list_cas,
    GetCa: cas.get_ca,
    GetCaChain: cas.get_ca_chain,
    ListCaChildren: cas.list_ca_children,
    GetCaPrivateKey: cas.get_ca_private_key,
    DeleteCa: cas.delete_ca,
    RetireCa: cas.retire_ca,
    RotateCa: cas.rotate_ca,
    ListGrants: grants.list_grants,
    PutGrant: grants.put_grant,
    DeleteGrant: grants.delete_grant,
    CreateCertificate: certificates.create_certificate,
    SignCsr: certificates.sign_csr,
    ListCertificates: certificates.list_certificates,
    SearchCertificates: inventory.search_certificates,
    GetCertificate: certificates.get_certificate,
    GetCertificateChain: certificates.get_certificate_chain,
    GetCertificatePrivateKey: certificates.get_certificate_private_key,
    RevokeCertificate: certificates.revoke_certificate,
    GetCaCertificate: status.get_ca_certificate,
    GetCrl: status.get_crl,
    AnswerOcsp: status.answer_ocsp,
    **rewrapping.handlers(KEK_COMMANDS[Service.ISSUER], SEALED),
}


async def open_issuer(settings: IssuerSettings) -> Issuer:
    """Return the issuer, its CAs not loaded yet."""
    runtime = await Runtime.open(Service.ISSUER, settings)
    authorities = Authorities(settings, runtime.database)
    issuance = GroupCommit("issuer.issue", runtime.database, signed.issue)
    visits = GroupCommit("issuer.visit", runtime.database, visit, ErrorCode.UNAVAILABLE)
    crls = Crls(authorities, runtime.database, runtime.backlog)
    responders = Responders(settings, authorities, runtime.database, runtime.backlog)
    keys = Keys(settings, runtime.database)
    return Issuer(
        runtime,
        settings,
        authorities,
        issuance,
        visits,
        crls,
        responders,
        keys,
        KeyBackends(settings, keys.take),
    )


async def build(settings: IssuerSettings) -> Application:
    """Put the service together."""
    issuer = await open_issuer(settings)
    return Application(
        issuer.runtime,
        bind(HANDLERS, issuer),
        direct=frozenset({SignInstanceCertificate, SignCsr}),
        prepare=issuer.authorities.load,
        background=(
            issuer.authorities.follow,
            issuer.crls.keep_up,
            issuer.crls.sweep,
            issuer.keys.fill,
            Expiry(
                Service.ISSUER, issuer.runtime.database, issuer.runtime.backlog, ending
            ).announce,
        ),
        problems=issuer.authorities.problems,
        warnings=issuer.warnings,
    )
