"""How an order begins: for somebody who asks, or because a certificate is due."""

from contracts.acme import Issuance, OrderKind
from contracts.principal import Principal
from services.acme.domain.orders import (
    names_of,
    request_hash,
    with_credentials,
    without_credentials,
)
from services.acme.keys import new_account_key, private_der
from services.acme.service import Acme
from services.acme.store import accounts, certificates, orders
from services.acme.store.accounts import AccountRow
from services.acme.store.certificates import CertificateRow
from services.acme.store.orders import NewOrder, OrderRow
from services.acme.store.sealed import ACCOUNT_KEY, CERTIFICATE_CREDENTIALS, ORDER_CREDENTIALS
from shared.database import Connection
from shared.identifiers import uuid7


async def begin(
    acme: Acme,
    connection: Connection,
    kind: OrderKind,
    project_id: str,
    domain: str,
    issuance: Issuance,
    *,
    waits: bool,
    actor: Principal,
    request_id: str,
    renewed: CertificateRow | None = None,
) -> OrderRow | None:
    """Insert an order; return None where one of the project goes on.

    Whoever commits it sets `acme.orders_waiting`.
    """
    staging = issuance.staging or kind is OrderKind.DRY_RUN
    directory = acme.settings.directory(staging=staging)
    account = await _account(acme, connection, directory, issuance.email)
    order_id = uuid7()
    text, credentials = without_credentials(issuance)
    sealed = (
        acme.sealer.seal(credentials, ORDER_CREDENTIALS.row(order_id))
        if credentials is not None
        else None
    )
    order = await orders.insert(
        connection,
        NewOrder(
            id=order_id,
            project_id=project_id,
            kind=kind,
            request=request_of(acme, kind, domain, issuance),
            waits=waits,
            domain=domain,
            names=names_of(domain),
            staging=staging,
            directory=directory,
            account_id=account.id,
            issuance=text,
            sealed_credentials=sealed,
            replaces=(
                renewed.ari_id
                if renewed is not None and renewed.account_id == account.id
                else None  # another CA, or another account, knows nothing of it
            ),
            renewed_from=renewed.not_before if renewed is not None else None,
            actor=actor,
            request_id=request_id,
        ),
    )
    if order is not None and renewed is not None:
        await certificates.renewal_begun(connection, renewed.id)
    return order


def request_of(acme: Acme, kind: OrderKind, domain: str, issuance: Issuance) -> str:
    """Return by what an identical request is known; one renewal is like another."""
    staging = issuance.staging or kind is OrderKind.DRY_RUN
    asked = None if kind is OrderKind.RENEW else issuance
    return request_hash(kind, domain, acme.settings.directory(staging=staging), asked)


def is_same(acme: Acme, order: OrderRow, kind: OrderKind, domain: str, issuance: Issuance) -> bool:
    """Return whether an order that goes on is what is asked for, with the same credentials."""
    if order.request != request_of(acme, kind, domain, issuance):
        return False
    if kind is OrderKind.RENEW:
        return True
    sealed = order.sealed_credentials
    known = acme.sealer.open(sealed, ORDER_CREDENTIALS.row(order.id)) if sealed else None
    return with_credentials(order.issuance, known).dns == issuance.dns


def issuance_of(acme: Acme, certificate: CertificateRow) -> Issuance:
    """Return how an ACME certificate was obtained, and is renewed."""
    assert certificate.issuance is not None  # noqa: S101 - the schema has it so
    sealed, row = certificate.sealed_credentials, CERTIFICATE_CREDENTIALS.row(certificate.id)
    credentials = acme.sealer.open(sealed, row) if sealed is not None else None
    return with_credentials(certificate.issuance, credentials)


async def _account(acme: Acme, connection: Connection, directory: str, email: str) -> AccountRow:
    """Return the account of an address at a CA, its key made here where there is none yet."""
    account = await accounts.find(connection, directory, email)
    if account is None:
        new_id = await accounts.new_id(connection)
        sealed = acme.sealer.seal(private_der(new_account_key()), ACCOUNT_KEY.row(new_id))
        account = await accounts.insert(connection, new_id, directory, email, sealed)
    if account is None:  # another replica was first
        account = await accounts.find(connection, directory, email)
    assert account is not None  # noqa: S101 - accounts are not removed
    return account
