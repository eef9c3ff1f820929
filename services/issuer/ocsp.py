"""OCSP (RFC 6960, RFC 5019): what a CA's responder says of its certificates.

1. The request is read; bytes that are none get `malformedRequest`.
2. A CertID has to name the CA by name and by key. A request about none of its certificates gets
   `unauthorized`; a certificate that it did not issue is `unknown`, never good.
3. The status of all is looked up, in one query with the requests that wait at the same moment: a
   response never says less than what was committed before the request came.
4. It is signed by the CA's responder, whose certificate is short-lived. A response without a nonce
   is kept for as long as it says the same, so that repeats cost no signature.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from cryptography import x509

from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Call
from contracts.pki import OcspAnswer
from contracts.principal import Principal, system
from contracts.subjects import Service
from services.issuer import keys
from services.issuer.authorities import Authorities
from services.issuer.authority import Authority
from services.issuer.domain import ocsp
from services.issuer.domain.encoding import signature_algorithm
from services.issuer.domain.identities import ocsp_responder
from services.issuer.domain.ocsp import (
    ErrorStatus,
    IssuerIds,
    OcspRequest,
    Status,
    error_response,
)
from services.issuer.domain.profiles import OCSP_RESPONDER, Profile
from services.issuer.keys import KeyAlgorithm
from services.issuer.settings import IssuerSettings
from services.issuer.signing import Order, issue
from services.issuer.store import cas, responders, signed
from services.issuer.store.cas import Ca
from services.issuer.store.responders import Question, ResponderRow
from services.issuer.store.sealed import RESPONDER_KEY
from shared.clock import utc_now
from shared.database import Connection, Database
from shared.group_commit import GroupCommit
from shared.identifiers import uuid7
from shared.outbox import Backlog
from shared.secrets import Sealer, UnsealError
from shared.x509 import PublicKey, public_key_der

GOOD_FOR: Final = timedelta(hours=1)
"""From `thisUpdate` to `nextUpdate`."""
KEPT_FOR: Final = timedelta(minutes=30)
"""How long the same response is given to those who ask without a nonce."""
MOST_KEPT: Final = 20_000
"""Responses in memory, of about a kilobyte each."""
MOST_OPEN: Final = 1_000
"""CAs whose responders are open."""
RENEWED_BEFORE: Final = OCSP_RESPONDER.validity / 2
"""How long before its end a responder is replaced, when the next request comes."""
TROUBLE: Final = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.OUTCOME_UNKNOWN, ErrorCode.OVERLOADED})
"""What goes away by itself."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class Responder:
    """A CA's responder with its key open."""

    certificate: bytes = field(repr=False)
    key_hash: bytes
    sign: Callable[[bytes], bytes] = field(repr=False)
    signature_algorithm: bytes
    not_after: datetime

    @classmethod
    def open(cls, row: ResponderRow, sealer: Sealer) -> "Responder":
        """Open a responder's key. Raises `UnsealError` and ValueError."""
        key = keys.from_der(sealer.open(row.sealed_key, RESPONDER_KEY.row(row.ca_id)))
        public_key: PublicKey = key.public_key()
        return cls(
            row.certificate,
            ocsp.key_hash(public_key_der(public_key)),
            keys.signer(key),
            signature_algorithm(public_key),
            row.not_after,
        )


@dataclass(frozen=True, slots=True)
class _Kept:
    """A signed response about one certificate, and what it says."""

    status: Status
    answer: OcspAnswer
    until: datetime


class Responders:
    """Answers for every CA whose key is here."""

    def __init__(
        self,
        settings: IssuerSettings,
        authorities: Authorities,
        database: Database,
        backlog: Backlog,
    ) -> None:
        self._settings = settings
        self._authorities = authorities
        self._database = database
        self._backlog = backlog
        self._look_up = GroupCommit[list[Question], list[Status | None]](
            "issuer.ocsp", database, responders.look_up, ErrorCode.UNAVAILABLE
        )
        self._ids: dict[str, tuple[Ca, IssuerIds]] = {}
        self._open: dict[int, Responder] = {}
        self._kept: dict[tuple[int, bytes], _Kept] = {}

    async def answer(self, slug: str, request_der: bytes) -> OcspAnswer:
        """Answer a request to the CA of a slug. Raises `NOT_FOUND` for a slug that is no CA's."""
        try:
            ca, ids = await self._ca(slug)
            try:
                request = ocsp.parse_request(request_der)  # 1
            except ValueError:
                return _error(ErrorStatus.MALFORMED_REQUEST)
            issued = [ids.issued(cert_id) for cert_id in request.certificates]
            if not any(issued) or ca.not_after <= utc_now():  # 2
                return _error(ErrorStatus.UNAUTHORIZED)
            statuses = await self._look_up.submit(  # 3
                [
                    (ca.id, cert_id.serial_hex if ours else None)
                    for cert_id, ours in zip(request.certificates, issued, strict=True)
                ]
            )
            return await self._respond(ca, request, statuses)  # 4
        except CertwireError as error:
            if error.code is ErrorCode.NOT_FOUND:
                raise
            return _error(
                ErrorStatus.TRY_LATER if error.code in TROUBLE else ErrorStatus.INTERNAL_ERROR
            )

    async def _ca(self, slug: str) -> tuple[Ca, IssuerIds]:
        """Return a CA; what counts of it here never changes."""
        found = self._ids.get(slug)
        if found is None:
            async with self._database.connection() as connection:
                ca = await cas.by_slug(connection, slug)
            if ca is None:
                raise CertwireError(ErrorCode.NOT_FOUND)
            certificate = x509.load_der_x509_certificate(ca.certificate)
            key: PublicKey = certificate.public_key()  # type: ignore[assignment]  # a CA's key signs
            found = ca, IssuerIds.of(certificate, public_key_der(key))
            _remember(self._ids, slug, found, MOST_OPEN)
        return found

    async def _respond(
        self, ca: Ca, request: OcspRequest, statuses: list[Status | None]
    ) -> OcspAnswer:
        """Return a signed response, an earlier one where it says the same."""
        now, single = utc_now(), None
        if len(statuses) == 1 and request.nonce is None and statuses[0] is not None:
            single = ca.id, request.certificates[0].der
            kept = self._kept.get(single)
            if kept is not None and kept.status == statuses[0] and now < kept.until:
                return kept.answer
        answer = _signed(await self._responder(ca, now), request, statuses, now)
        if single is not None and statuses[0] is not None:
            kept = _Kept(statuses[0], answer, now + KEPT_FOR)
            _remember(self._kept, single, kept, MOST_KEPT)
        return answer

    # --- The responder ---------------------------------------------------------------------------

    async def _responder(self, ca: Ca, now: datetime) -> Responder:
        """Return the CA's responder, replaced in time.

        Raises `CA_CANNOT_SIGN` and `NOT_INITIALISED` where there has to be a new one and the CA's
        key is away; while the old one lives it goes on.
        """
        responder = self._open.get(ca.id)
        if responder is not None and now < responder.not_after - RENEWED_BEFORE:
            return responder
        try:
            fresh = await self._renewed(ca, now)
        except CertwireError:
            if responder is None or responder.not_after - GOOD_FOR <= now:
                raise
            return responder
        _remember(self._open, ca.id, fresh, MOST_OPEN)
        return fresh

    async def _renewed(self, ca: Ca, now: datetime) -> Responder:
        """Return what another replica has made, or make it."""
        async with self._database.transaction() as connection:
            await responders.lock(connection, ca.id)
            row = await responders.of(connection, ca.id)
            if row is not None and _lasts(ca, row, now):
                try:
                    return Responder.open(row, self._settings.sealer)
                except (UnsealError, ValueError):
                    pass  # its key is worth nothing without the one that it is sealed under
            known = await cas.by_id(connection, ca.id)  # its key may be sealed anew by now
            authority = self._authorities.authority(known or ca)
            actor = system(Service.ISSUER)
            row = await make(connection, ca, authority, self._settings.sealer, actor)
        self._backlog.nudge()
        return Responder.open(row, self._settings.sealer)


def _lasts(ca: Ca, row: ResponderRow, now: datetime) -> bool:
    """Return whether there is no need for another yet: none that is made now would end later."""
    offline = ca.key_backend == cas.FILE
    return row.not_after > now and (
        offline or row.not_after - now > RENEWED_BEFORE or row.not_after >= ca.not_after
    )


async def make(
    connection: Connection,
    ca: Ca,
    authority: Authority,
    sealer: Sealer,
    actor: Principal,
    profile: Profile = OCSP_RESPONDER,
) -> ResponderRow:
    """Make and record a CA's next responder; the transaction holds its lock."""
    key = keys.generate(KeyAlgorithm.P256)
    call = Call(request_id=str(uuid7()), deadline=0)
    order = Order(profile, ocsp_responder(ca.slug), None, actor, call)
    public_key = public_key_der(key.public_key())
    issuance = await authority.working(partial(issue, ca.id, authority, order, public_key))
    sealed = sealer.seal(keys.to_der(key), RESPONDER_KEY.row(ca.id))
    certificate = issuance.certificate
    row = ResponderRow(ca.id, certificate.der, sealed, certificate.not_after)
    await signed.issue(connection, [issuance])
    await responders.put(connection, row)
    return row


def _signed(
    responder: Responder, request: OcspRequest, statuses: list[Status | None], now: datetime
) -> OcspAnswer:
    this_update = now.replace(microsecond=0)
    next_update = min(this_update + GOOD_FOR, responder.not_after)
    singles = [
        ocsp.single_response(cert_id, status, this_update, next_update)
        for cert_id, status in zip(request.certificates, statuses, strict=True)
    ]
    data = ocsp.response_data(responder.key_hash, this_update, singles, request.nonce)
    response = ocsp.successful_response(
        data, responder.signature_algorithm, responder.sign(data), responder.certificate
    )
    if request.nonce is not None or None in statuses:
        return OcspAnswer(response=response)
    return OcspAnswer(response=response, this_update=this_update, next_update=next_update)


def _error(status: ErrorStatus) -> OcspAnswer:
    return OcspAnswer(response=error_response(status))


def _remember(known: dict[KeyT, ValueT], key: KeyT, value: ValueT, most: int) -> None:
    """Add to what is known; where that is enough, what was added first is forgotten."""
    known.pop(key, None)
    while len(known) >= most:
        known.pop(next(iter(known)))
    known[key] = value
