"""Certificates that users' CAs sign. In order:

1. The CSR is checked as for the platform's certificates, and the subject put together.
2. The CA is read, with what the user may do there and the number of the next certificate: in one
   query with the requests that wait at the same moment.
3. It is decided what the user may and what the CA signs.
4. The certificate is signed and recorded as `signing` has it.

With an `Idempotency-Key`, 2 to 4 are one transaction, which claims the key first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from cryptography.hazmat.primitives.asymmetric import rsa

from contracts.certificates import CertificateKind
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Call
from contracts.pki import CertificateView, SignCsr
from contracts.principal import Principal, Role
from services.issuer import views
from services.issuer.domain import subjects
from services.issuer.domain.permissions import Action, Object, authorise, user_id
from services.issuer.domain.profiles import Profile, path_length_below, user_ca, user_leaf
from services.issuer.domain.subjects import Subject
from services.issuer.hierarchy import check_in_use
from services.issuer.service import Issuer
from services.issuer.signing import Order, Ownership, issue
from services.issuer.store import cas, signed
from services.issuer.store.cas import Ca, Visit, Visited
from services.issuer.store.signed import Issuance
from shared.clock import utc_now
from shared.database import Connection
from shared.x509 import PublicKey, parse_csr, public_key_der


@dataclass(frozen=True, slots=True)
class Wish:
    """A certificate that a user wants of a CA."""

    actor: Principal
    call: Call
    visit: Visit
    kind: CertificateKind
    subject: Subject
    valid_days: int


async def sign_csr(issuer: Issuer, command: SignCsr) -> CertificateView:
    """Sign a CSR."""
    csr = parse_csr(command.csr_pem)  # 1
    wish = Wish(
        command.actor,
        command.call,
        visit(command.actor, command.ca_id, command.ca_name),
        command.certificate_type,
        subjects.of_csr(command.certificate_type, command.names, csr.csr),
        command.valid_days,
    )
    if command.call.idempotency is not None:
        async with issuer.runtime.unit_of_work(command) as work:
            view = await issue_within(work.connection, issuer, wish, csr.public_key)
            return await work.answer(view)
    found = await issuer.visits.submit(wish.visit)  # 2
    issuance = await _signed(issuer, wish, found, csr.public_key, csr.public_key_der)
    created_at = await issuer.issuance.submit(issuance)
    issuer.runtime.backlog.nudge()
    return views.of_issuance(issuance, csr.public_key, _when(created_at))


async def issue_within(
    connection: Connection, issuer: Issuer, wish: Wish, key: PublicKey
) -> CertificateView:
    """Issue a certificate in the transaction on a connection."""
    (found,) = await cas.visit(connection, [wish.visit])
    issuance = await _signed(issuer, wish, found, key, public_key_der(key))
    (created_at,) = await signed.issue(connection, [issuance])
    return views.of_issuance(issuance, key, _when(created_at))


def visit(actor: Principal, ca_id: int | None, ca_name: str | None) -> Visit:
    """Return which CA a user means. Raises `FORBIDDEN` for who is no user."""
    return Visit(
        user_id=user_id(actor),
        ca_id=ca_id,
        name=ca_name,
        everywhere=actor.role is Role.SUPERUSER,
        organization_id=actor.organization_id,
    )


def permitted(wish: Wish, found: Sequence[Visited], now: datetime) -> Visited:  # 3
    """Return the CA that is to sign.

    Raises `NOT_FOUND`, `CONFLICT` for an ambiguous name and for a CA that signs nothing here, or no
    more, `FORBIDDEN`, and `AGAINST_POLICY` for what it does not sign.
    """
    if not found:
        raise CertwireError(ErrorCode.NOT_FOUND, "CA not found")
    if len(found) > 1:
        raise CertwireError(ErrorCode.CONFLICT, "Several CAs have this name: use ca_id")
    (visited,) = found
    ca = visited.ca
    of = Object(ca.organization_id, ca.created_by_user_id)
    authorise(wish.actor, Action.CREATE_CERT, of, visited.grants)
    check_in_use(ca, now)
    if wish.kind is CertificateKind.CA:
        path_length_below(ca.path_length)
    elif not ca.signs_leaves:
        raise CertwireError(ErrorCode.AGAINST_POLICY, "The CA does not allow leaf certificates")
    return visited


async def _signed(
    issuer: Issuer, wish: Wish, found: Sequence[Visited], key: PublicKey, public_key: bytes
) -> Issuance:
    visited = permitted(wish, found, utc_now())
    ca, number = visited.ca, visited.next_certificate_id
    owned = Ownership(number, ca.organization_id, user_id(wish.actor))
    order = Order(
        _profile(wish, ca, key),
        wish.subject.numbered(number),
        None,
        wish.actor,
        wish.call,
        ownership=owned,
    )
    authority = issuer.authorities.authority(ca)
    return await authority.working(partial(issue, ca.id, authority, order, public_key))  # 4


def _profile(wish: Wish, ca: Ca, key: PublicKey) -> Profile:
    if wish.kind is CertificateKind.CA:
        return user_ca(wish.valid_days, path_length_below(ca.path_length))
    return user_leaf(wish.kind, wish.valid_days, rsa=isinstance(key, rsa.RSAPublicKey))


def _when(created_at: datetime | None) -> datetime:
    assert created_at is not None  # noqa: S101 - without a claim there is nothing in its way
    return created_at
