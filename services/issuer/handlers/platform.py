"""Certificates of the platform itself: instances, agents, administrator, gateway."""

import asyncio

from contracts.certificates import SignedCertificate
from contracts.errors import CertwireError, ErrorCode
from contracts.issuer import (
    GatewayCertificate,
    GenerateAdminBundle,
    GenerateAgentBundle,
    GenerateCommand,
    GetPlatformCa,
    PlatformCa,
    RecordedRevocations,
    RevokeInstanceCertificates,
    RevokeRegistryCertificates,
    SignAdminCertificate,
    SignAgentCertificate,
    SignCommand,
    SignedBundle,
    SignGatewayCertificate,
    SignInstanceCertificate,
    VoidInstanceClaims,
    VoidRegistryClaims,
)
from contracts.messages import Done
from contracts.principal import system
from contracts.subjects import Service
from services.issuer import bundles, keys, revocation
from services.issuer.domain import identities
from services.issuer.domain.encoding import pem
from services.issuer.domain.identities import Identity
from services.issuer.domain.profiles import ADMIN, GATEWAY, Profile
from services.issuer.keys import KeyAlgorithm
from services.issuer.service import Issuer
from services.issuer.signing import Order, prepare, record, reply, sign
from shared.x509 import bundle, public_key_der


async def sign_instance_certificate(
    command: SignInstanceCertificate, issuer: Issuer
) -> SignedCertificate:
    """Sign a 24-hour certificate."""
    identity = identities.instance(command.instance_id, issuer.settings.trust_domain)
    profile = issuer.settings.instance_profile
    return await _sign(command, issuer, profile, identity, command.renews)


async def sign_agent_certificate(
    command: SignAgentCertificate, issuer: Issuer
) -> SignedCertificate:
    """Sign a 2-year certificate of an agent's own key."""
    identity = identities.agent(command.label, issuer.settings.trust_domain)
    profile = issuer.settings.agent_profile
    return await _sign(command, issuer, profile, identity, command.renews)


async def sign_admin_certificate(
    command: SignAdminCertificate, issuer: Issuer
) -> SignedCertificate:
    """Sign a 2-year certificate of the administrator's own key."""
    identity = identities.admin(issuer.settings.trust_domain)
    return await _sign(command, issuer, ADMIN, identity, command.renews)


async def generate_admin_bundle(command: GenerateAdminBundle, issuer: Issuer) -> SignedBundle:
    """Make key, certificate and bundle of the administrator."""
    identity = identities.admin(issuer.settings.trust_domain)
    return await _generate(command, issuer, ADMIN, identity, command.renews)


async def generate_agent_bundle(command: GenerateAgentBundle, issuer: Issuer) -> SignedBundle:
    """Make key, certificate and bundle of an agent."""
    identity = identities.agent(command.label, issuer.settings.trust_domain)
    return await _generate(command, issuer, issuer.settings.agent_profile, identity, None)


async def sign_gateway_certificate(
    command: SignGatewayCertificate, issuer: Issuer
) -> GatewayCertificate:
    """Sign the key of a gateway; every replica has its own."""
    identity = identities.gateway(issuer.settings.gateway_hosts)
    order = Order(GATEWAY, identity, command.claim_id, system(Service.GATEWAY), command.call)
    signed = await sign(issuer, order, command.csr_pem)
    above = [pem(ca.certificate) for ca in issuer.authorities.chain() if ca.parent_id is not None]
    return GatewayCertificate(
        chain_pem=bundle([signed.certificate_pem, *above]),
        not_before=signed.not_before,
        not_after=signed.not_after,
    )


async def revoke_instance_certificates(
    command: RevokeInstanceCertificates, issuer: Issuer
) -> RecordedRevocations:
    """Record what the instance service has revoked."""
    return await revocation.revoke(issuer, command, Service.INSTANCE)


async def revoke_registry_certificates(
    command: RevokeRegistryCertificates, issuer: Issuer
) -> RecordedRevocations:
    """Record what the registry has revoked."""
    return await revocation.revoke(issuer, command, Service.REGISTRY)


async def void_instance_claims(command: VoidInstanceClaims, issuer: Issuer) -> Done:
    """Void claims of the instance service."""
    return await revocation.void(issuer, command, Service.INSTANCE)


async def void_registry_claims(command: VoidRegistryClaims, issuer: Issuer) -> Done:
    """Void claims of the registry."""
    return await revocation.void(issuer, command, Service.REGISTRY)


async def get_platform_ca(_command: GetPlatformCa, issuer: Issuer) -> PlatformCa:
    """Return the certificates that callers trust."""
    await issuer.authorities.load()
    return PlatformCa(ca_pem=issuer.authorities.bundle())


async def _sign(
    command: SignCommand, issuer: Issuer, profile: Profile, identity: Identity, renews: str | None
) -> SignedCertificate:
    order = Order(profile, identity, command.claim_id, command.actor, command.call, renews)
    return await sign(issuer, order, command.csr_pem)


async def _generate(
    command: GenerateCommand,
    issuer: Issuer,
    profile: Profile,
    identity: Identity,
    renews: str | None,
) -> SignedBundle:
    key = keys.generate(KeyAlgorithm.P256)
    order = Order(profile, identity, command.claim_id, command.actor, command.call, renews)
    issuance = await prepare(issuer, order, public_key_der(key.public_key()))
    made = await asyncio.to_thread(
        bundles.make,
        f"{issuer.settings.platform_name} {identity.owner_id}",
        key,
        issuance.certificate.der,
        [ca.certificate for ca in issuer.authorities.chain()],
    )
    if not await record(issuer, issuance):
        raise CertwireError(ErrorCode.CLAIM_VOIDED, "the bundle of a claim is made once")
    return SignedBundle(
        certificate=reply(issuance.certificate),
        pkcs12=made.pkcs12,
        legacy_pkcs12=made.legacy,
        password=made.password,
    )
