"""Orders: begun, joined, looked at. Who asks does not wait here; see services/acme/workers.py."""

from contracts.acme import (
    CertificateType,
    GetOrder,
    Issuance,
    ListOrders,
    ObtainCertificate,
    Order,
    OrderKind,
    OrderList,
    Project,
    RenewDomain,
    RenewPublicCertificate,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Principal
from services.acme.beginning import begin, is_same, issuance_of
from services.acme.domain.orders import require_orderable
from services.acme.domain.permissions import authorise
from services.acme.handlers.access import (
    NO_CERTIFICATE,
    in_progress,
    locked,
    no_certificate,
    project,
    project_object,
)
from services.acme.service import Acme
from services.acme.store import accounts, certificates, orders
from services.acme.store.certificates import CertificateRow
from services.acme.store.orders import OrderRow
from shared.database import Connection
from shared.unit_of_work import UnitOfWork


async def obtain_certificate(command: ObtainCertificate, acme: Acme) -> Order:
    """Begin an order, or join the one that goes on for the same."""
    authorise(command.actor, command)
    kind = OrderKind.DRY_RUN if command.dry_run else OrderKind.OBTAIN
    async with acme.runtime.unit_of_work(command) as work:
        found = await locked(work.connection, command)
        domain = require_orderable(found.domain, command.issuance, command.actor)
        return await _begin(work, command, acme, found, kind, domain, command.issuance, None)


async def renew_certificate(command: RenewPublicCertificate, acme: Acme) -> Order:
    """Begin the renewal of the project's certificate, or join the one that goes on."""
    authorise(command.actor, command)
    async with acme.runtime.unit_of_work(command) as work:
        found = await locked(work.connection, command)
        certificate = await certificates.visible(work.connection, found.id)
        if certificate is None:
            raise no_certificate(command)
        return await _renew(work, command, acme, found, certificate)


async def renew_domain(command: RenewDomain, acme: Acme) -> Order:
    """Begin the renewal of a name's certificate, whichever project it belongs to."""
    authorise(command.actor, command)
    async with acme.runtime.database.connection() as connection:
        project_id = await certificates.project_of_domain(connection, command.domain)
    if project_id is None:
        raise CertwireError(ErrorCode.NOT_FOUND, NO_CERTIFICATE, actor=command.actor)
    renewal = RenewPublicCertificate(call=command.call, actor=command.actor, project_id=project_id)
    async with acme.runtime.unit_of_work(renewal) as work:
        found = await locked(work.connection, renewal)
        certificate = await certificates.of_kind(work.connection, found.id, staging=False)
        if (
            certificate is None
            or certificate.type is not CertificateType.LETSENCRYPT
            or certificate.revoked_at is not None  # it is not listed, either
        ):
            raise no_certificate(renewal)
        return await _renew(work, renewal, acme, found, certificate)


async def get_order(command: GetOrder, acme: Acme) -> Order:
    """Return an order as it is now."""
    authorise(command.actor, command)
    async with acme.runtime.database.connection() as connection:
        order = await orders.get(connection, command.order_id)
    if order is None:
        raise CertwireError(ErrorCode.NOT_FOUND, "Order not found", actor=command.actor)
    return order.shown()


async def list_orders(command: ListOrders, acme: Acme) -> OrderList:
    """Return a project's last orders."""
    authorise(command.actor, command)
    async with acme.runtime.database.connection() as connection:
        found = await project(connection, command)
        last = await orders.last(connection, found.id, command.limit)
    return OrderList(orders=tuple(order.shown() for order in last))


async def _renew(
    work: UnitOfWork,
    command: RenewPublicCertificate,
    acme: Acme,
    found: Project,
    certificate: CertificateRow,
) -> Order:
    if certificate.type is CertificateType.CUSTOM:
        raise CertwireError(
            ErrorCode.AGAINST_POLICY,
            "An uploaded certificate cannot be renewed",
            actor=command.actor,
        )
    if certificate.revoked_at is not None:
        raise CertwireError(
            ErrorCode.ALREADY_REVOKED, "Certificate is already revoked", actor=command.actor
        )
    issuance = issuance_of(acme, certificate)
    domain = certificate.domain
    return await _begin(work, command, acme, found, OrderKind.RENEW, domain, issuance, certificate)


async def _begin(
    work: UnitOfWork,
    command: ObtainCertificate | RenewPublicCertificate,
    acme: Acme,
    found: Project,
    kind: OrderKind,
    domain: str,
    issuance: Issuance,
    renewed: CertificateRow | None,
) -> Order:
    """Begin an order of a project that is locked; join the one that goes on for the same."""
    current = await orders.active(work.connection, found.id)
    if current is not None:
        if not is_same(acme, current, kind, domain, issuance):
            raise in_progress(command, current)
        return await _answered(work, command, current)
    staging = issuance.staging or kind is OrderKind.DRY_RUN
    directory = acme.settings.directory(staging=staging)
    await _require_admitted(work.connection, found, domain, directory, command.actor)
    order = await begin(
        acme,
        work.connection,
        kind,
        found.id,
        domain,
        issuance,
        waits=True,
        actor=command.actor,
        request_id=work.request_id,
        renewed=renewed,
    )
    assert order is not None  # noqa: S101 - the project is locked, and had none
    work.record(
        command.actor,
        "order_create",
        project_object(found),
        detail={"order_id": str(order.id), "kind": kind, "domain": domain},
    )
    acme.orders_waiting.set()
    return await _answered(work, command, order)


async def _answered(
    work: UnitOfWork, command: ObtainCertificate | RenewPublicCertificate, order: OrderRow
) -> Order:
    """Return the answer, which is kept unless the order fails."""
    key = command.call.idempotency
    if key is not None:
        await orders.answer(work.connection, order.id, key)
    return await work.answer(order.shown())


async def _require_admitted(
    connection: Connection, found: Project, domain: str, directory: str, actor: Principal
) -> None:
    """Raise `CA_UNAVAILABLE` while the CA wants no order for the name, or none at all."""
    wait: tuple[int, str] | None = await accounts.paused(connection, directory)
    held_back = await orders.held_back(connection, found.id, domain, directory)
    if held_back is not None:
        wait = held_back[0], held_back[1].parameters.get("reason", held_back[1].detail)
    if wait is not None:
        raise CertwireError(
            ErrorCode.CA_UNAVAILABLE,
            f"The CA is unavailable: {wait[1].removeprefix('The CA is unavailable: ')}",
            retry_after_seconds=max(1, wait[0]),
            actor=actor,
        )
