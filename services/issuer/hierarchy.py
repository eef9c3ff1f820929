"""How CAs of users are made: roots, intermediates, and those that take another's place."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from cryptography import x509

from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.events import CaCreated
from contracts.messages import Call
from contracts.pki import CaState, CaView, NameConstraints
from contracts.principal import Principal
from services.issuer.authority import Authority
from services.issuer.domain import authorities, identities, name_constraints
from services.issuer.domain.authorities import key_facts
from services.issuer.domain.distinguished_names import common_name, printed
from services.issuer.domain.encoding import pem
from services.issuer.domain.identities import Identity
from services.issuer.domain.profiles import user_ca
from services.issuer.key_backends import CaKey
from services.issuer.service import Issuer
from services.issuer.signing import Order, Ownership, issue
from services.issuer.store import cas, signed
from services.issuer.store.cas import ACTIVE, PLATFORM, USER, Ca
from shared.clock import utc_now
from shared.unit_of_work import UnitOfWork
from shared.x509 import public_key_der, serial_hex


@dataclass(frozen=True, slots=True)
class Plan:
    """What a CA is to be. The nearest of those `above` is to sign it; without any it is a root."""

    above: tuple[Ca, ...]
    name: str
    description: str | None
    subject: x509.Name
    valid_days: int
    path_length: int | None
    constraints: NameConstraints | None
    allow_leaf_certs: bool | None
    crl_base_url: str | None
    organization_id: int | None
    created_by_user_id: int
    has_had_children: bool = False

    def checked(self) -> "Plan":
        """Return the plan. Raises `AGAINST_POLICY` where there is no place for it."""
        authorities.check_depth(len(self.above))
        authorities.check_subject(self.subject, [certificate_of(ca).subject for ca in self.above])
        return self


def check_in_use(ca: Ca, now: datetime) -> None:
    """Raise `CONFLICT` for a CA that is the platform's, or signs nothing any more."""
    check_is_a_users(ca)
    authorities.check_in_use(f"CA {ca.id}", ca.state, ca.not_after, now)


def check_is_a_users(ca: Ca) -> None:
    """Raise `CONFLICT` for one of the platform's own CAs."""
    if ca.kind in PLATFORM:
        raise CertwireError(
            ErrorCode.CONFLICT, f"CA {ca.id} is the platform's own: see `certwire ca`"
        )


def certificate_of(ca: Ca) -> x509.Certificate:
    """Return the certificate of a CA."""
    return x509.load_der_x509_certificate(ca.certificate)


def constraints_of(above: Sequence[Ca], own: NameConstraints | None) -> NameConstraints | None:
    """Return the constraints of a CA below others, its own included. Raises `AGAINST_POLICY`."""
    inherited = name_constraints.of(certificate_of(above[0])) if above else None
    return name_constraints.below(inherited, own)


async def make(
    work: UnitOfWork, issuer: Issuer, plan: Plan, key: CaKey, actor: Principal, call: Call
) -> Ca:
    """Make the CA, its certificate, and the records and events of both.

    Raises `AGAINST_POLICY` for a subject that the CA above is not to speak for.
    """
    ca_id = await cas.next_ca_id(work.connection)
    slug = identities.slug(plan.name, ca_id)
    identity = Identity(slug, common_name(plan.subject), plan.subject)
    profile = user_ca(
        plan.valid_days, plan.path_length, name_constraints.extension(plan.constraints)
    )
    certificate_id = await cas.next_certificate_id(work.connection)
    owner = Ownership(certificate_id, plan.organization_id, plan.created_by_user_id)
    order = Order(profile, identity, None, actor, call, ownership=owner, for_ca_id=ca_id)
    if plan.above:
        signer_id, authority = plan.above[0].id, issuer.authorities.authority(plan.above[0])
    else:
        signer_id, authority = ca_id, Authority(plan.subject, key.key, [profile.kind])
    public_key = public_key_der(key.key.public_key())
    issuance = await authority.working(partial(issue, signer_id, authority, order, public_key))
    now, certificate = utc_now(), issuance.certificate
    ca = Ca(
        id=ca_id,
        name=plan.name,
        slug=slug,
        kind=USER,
        state=ACTIVE,
        parent_id=plan.above[0].id if plan.above else None,
        subject=printed(plan.subject),
        certificate=certificate.der,
        fingerprint=certificate.fingerprint,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        created_at=now,
        updated_at=now,
        valid_days=plan.valid_days,
        path_length=plan.path_length,
        allow_leaf_certs=plan.allow_leaf_certs,
        has_had_children=plan.has_had_children,
        description=plan.description,
        organization_id=plan.organization_id,
        created_by_user_id=plan.created_by_user_id,
        crl_base_url=plan.crl_base_url,
        key_backend=key.key_backend,
        key_handle=key.key_handle,
        sealed_key=key.sealed(issuer.settings.sealer, ca_id),
    )
    await cas.insert_ca(work.connection, ca)
    if ca.parent_id is not None:
        await cas.has_a_child(work.connection, ca.parent_id)
    await signed.issue(work.connection, [issuance])
    work.record(
        actor,
        "ca_create",
        audited(ca),
        detail={"kind": ca.kind, "fingerprint": ca.fingerprint, "parent": ca.parent_id},
        event=CaCreated(
            ca=ca.slug, fingerprint=ca.fingerprint, subject=ca.subject, not_after=ca.not_after
        ),
    )
    return ca


def audited(ca: Ca) -> AuditObject:
    """Return what the audit log calls a CA of users."""
    return AuditObject(type="ca", id=str(ca.id), name=ca.name, organization_id=ca.organization_id)


def view(ca: Ca) -> CaView:
    """Return a CA as its users see it."""
    certificate = certificate_of(ca)
    key_type, key_size = key_facts(certificate.public_key())
    return CaView(
        id=ca.id,
        slug=ca.slug,
        name=ca.name,
        description=ca.description,
        subject_dn=ca.subject,
        key_type=key_type,
        key_size=key_size,
        valid_days=ca.valid_days,
        state=CaState(ca.state),
        certificate_pem=pem(ca.certificate),
        fingerprint=ca.fingerprint,
        serial_hex=serial_hex(certificate.serial_number),
        not_before=ca.not_before,
        not_after=ca.not_after,
        organization_id=ca.organization_id,
        created_by_user_id=ca.created_by_user_id,
        parent_ca_id=ca.parent_id,
        path_length=ca.path_length,
        allow_leaf_certs=ca.signs_leaves,
        crl_base_url=ca.crl_base_url,
        is_root=ca.parent_id is None,
        name_constraints=name_constraints.of(certificate),
        created_at=ca.created_at,
        updated_at=ca.updated_at,
    )
