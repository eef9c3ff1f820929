"""The platform's root and issuing CA, made once by `certwire init` on the server.

Each step may be repeated and leaves what it finds, so a run that was cut off anywhere is finished
by the next:

1. The root's key, encrypted under the passphrase in `root.passphrase`, goes to its file. It is
   opened here and by `certwire ca`, never by the running service.
2. In one transaction: the root, the issuing CA with its key sealed, their certificates, events and
   audit records, the root's first CRL. Whoever comes second at the same moment waits and finds all.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography import x509

from contracts.audit import AuditObject
from contracts.events import CaCreated
from contracts.messages import Call
from contracts.principal import Principal, PrincipalKind
from contracts.subjects import Service
from services.issuer import keys, root_status
from services.issuer.authority import Authority, Certificate
from services.issuer.domain.identities import Identity, platform_ca, slug
from services.issuer.domain.profiles import ISSUING_CA, ROOT_CA
from services.issuer.key_backends import KeyBackends
from services.issuer.keys import PrivateKey
from services.issuer.settings import IssuerSettings
from services.issuer.signing import Order, issue
from services.issuer.store import cas, signed
from services.issuer.store.cas import ACTIVE, FILE, PLATFORM_ISSUING, PLATFORM_ROOT, Ca
from services.issuer.store.crls import Crl
from services.issuer.store.signed import Issuance
from shared import outbox
from shared.clock import utc_now
from shared.database import Connection, Database
from shared.files import write_private
from shared.identifiers import uuid7
from shared.outbox import OutboxRow, outbox_row
from shared.x509 import public_key_der

OPERATOR: Final = Principal(kind=PrincipalKind.OPERATOR, id="init", name="certwire init")


class RootKeyError(Exception):
    """The root's key is missing, does not open, or is another one; the text is for a person."""


async def create_platform_ca(settings: IssuerSettings) -> None:
    """Make what is missing of the platform's CAs; logs in as the issuer's role.

    Raises `RootKeyError`, `CA_CANNOT_SIGN` for a token that makes no key, and FileNotFoundError for
    a missing key-encryption key or passphrase.
    """
    _ = settings.sealer  # nothing is begun without the keys
    database = await Database.open(settings, Service.ISSUER)
    try:
        async with database.transaction() as connection:
            await cas.lock_creation(connection)
            active = [ca for ca in await cas.platform_cas(connection) if ca.state == ACTIVE]
            root = next((ca for ca in active if ca.kind == PLATFORM_ROOT), None)
            if root is None or len(active) == 1:
                creation = _Creation(settings, connection)
                root = root or await creation.root_ca()
                await creation.issuing_ca(root)
                await creation.root_status(root)
    finally:
        await database.close()


async def sign_root_crl(settings: IssuerSettings) -> tuple[Ca, Crl]:
    """Make the root's next CRL and OCSP responder; logs in as the issuer's role.

    Raises `RootKeyError`, `CA_CANNOT_SIGN`, and FileNotFoundError as `create_platform_ca`.
    """
    database = await Database.open(settings, Service.ISSUER)
    try:
        async with database.transaction() as connection:
            known = await cas.platform_cas(connection)
            roots = [ca for ca in known if ca.kind == PLATFORM_ROOT and ca.state == ACTIVE]
            if not roots:
                raise RootKeyError("there is no root yet: run `certwire init`")
            creation = _Creation(settings, connection)
            return roots[0], await creation.root_status(roots[0])
    finally:
        await database.close()


def root_key_file(settings: IssuerSettings) -> Path:
    """Return where the root's key lies."""
    return settings.home / "root" / "root.key"


def open_root_key(settings: IssuerSettings) -> PrivateKey:
    """Return the root's key. Raises `RootKeyError`, and FileNotFoundError for the passphrase."""
    path, passphrase = root_key_file(settings), settings.secret("root.passphrase")
    try:
        return keys.from_encrypted_pem(path.read_bytes(), passphrase)
    except FileNotFoundError:
        raise RootKeyError(f"the root's key is not at {path}") from None
    except ValueError:
        raise RootKeyError(f"the root's key in {path} does not open") from None


def ensure_root_key(settings: IssuerSettings) -> PrivateKey:
    """Return the root's key, made where there is none."""
    path = root_key_file(settings)
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = keys.generate(settings.ca_key_algorithm)
        write_private(path, keys.to_encrypted_pem(key, settings.secret("root.passphrase")))
    return open_root_key(settings)


@dataclass(frozen=True)
class _Creation:
    """CAs made in one transaction."""

    settings: IssuerSettings
    connection: Connection

    async def root_ca(self) -> Ca:
        """Make the root: self-signed, its key in a file."""
        key = ensure_root_key(self.settings)
        ca_id, name, identity = await self._name("Root CA")
        authority = Authority(identity.subject, key, [ROOT_CA.kind])
        order = Order(ROOT_CA, identity, None, OPERATOR, _call(), for_ca_id=ca_id)
        issuance = issue(ca_id, authority, order, public_key_der(key.public_key()))
        ca = _ca(ca_id, name, PLATFORM_ROOT, order, issuance.certificate)
        await self._insert(ca, issuance, order)
        return ca

    async def issuing_ca(self, root: Ca) -> Ca:
        """Make an issuing CA below the root, its key where the settings say."""
        ca_id, name, identity = await self._name("Issuing CA")
        made = await KeyBackends(self.settings).make(self.settings.ca_key_algorithm)
        order = Order(ISSUING_CA, identity, None, OPERATOR, _call(), for_ca_id=ca_id)
        issuance = issue(
            root.id, self._open_root(root), order, public_key_der(made.key.public_key())
        )
        ca = replace(
            _ca(ca_id, name, PLATFORM_ISSUING, order, issuance.certificate, root.id),
            key_backend=made.key_backend,
            key_handle=made.key_handle,
            sealed_key=made.sealed(self.settings.sealer, ca_id),
        )
        await self._insert(ca, issuance, order)
        return ca

    async def root_status(self, root: Ca) -> Crl:
        """Sign what says which of the root's certificates are revoked."""
        authority, sealer = self._open_root(root), self.settings.sealer
        return await root_status.make(self.connection, root, authority, sealer, OPERATOR)

    async def _name(self, what: str) -> tuple[int, str, Identity]:
        ca_id = await cas.next_ca_id(self.connection)
        organization = self.settings.platform_name
        name = f"{organization} {what}"
        return ca_id, name, platform_ca(name, slug(name, ca_id), organization)

    def _open_root(self, root: Ca) -> Authority:
        certificate = x509.load_der_x509_certificate(root.certificate)
        key, public_url = open_root_key(self.settings), self.settings.public_url
        try:
            return Authority.open(certificate, root.slug, key, [ISSUING_CA.kind], public_url)
        except ValueError as error:
            raise RootKeyError(str(error)) from None

    async def _insert(self, ca: Ca, issuance: Issuance, order: Order) -> None:
        await cas.insert_ca(self.connection, ca)
        await outbox.append(self.connection, [_created(ca, order.call)])
        await signed.issue(self.connection, [issuance])


def _call() -> Call:
    return Call(request_id=str(uuid7()), deadline=0)


def _ca(
    ca_id: int,
    name: str,
    kind: str,
    order: Order,
    certificate: Certificate,
    parent_id: int | None = None,
) -> Ca:
    now = utc_now()
    return Ca(
        id=ca_id,
        name=name,
        slug=order.identity.owner_id,
        kind=kind,
        state=ACTIVE,
        parent_id=parent_id,
        subject=order.identity.subject.rfc4514_string(),
        certificate=certificate.der,
        fingerprint=certificate.fingerprint,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        created_at=now,
        updated_at=now,
        valid_days=order.profile.validity.days,
        path_length=order.profile.path_length,
        allow_leaf_certs=False,
        key_backend=FILE,
    )


def _created(ca: Ca, call: Call) -> OutboxRow:
    return outbox_row(
        Service.ISSUER,
        call.request_id,
        OPERATOR,
        "ca_create",
        AuditObject(type="ca", id=str(ca.id), name=ca.name),
        detail={"kind": ca.kind, "fingerprint": ca.fingerprint},
        event=CaCreated(
            ca=ca.slug, fingerprint=ca.fingerprint, subject=ca.subject, not_after=ca.not_after
        ),
    )
