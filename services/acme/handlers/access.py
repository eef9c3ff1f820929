"""The project that a command is about, and what stands in its way."""

from typing import Any

from contracts.acme import Project, ProjectCommand
from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from services.acme.store import orders, projects
from services.acme.store.orders import OrderRow
from shared.database import Connection

NO_PROJECT = "Project not found"
NO_CERTIFICATE = "No certificate found"
"""The rulings' words."""


async def project(connection: Connection, command: ProjectCommand[Any]) -> Project:
    """Return the project. Raises `NOT_FOUND`."""
    return _existing(await projects.find(connection, command.project_id), command)


async def locked(connection: Connection, command: ProjectCommand[Any]) -> Project:
    """Return the project, which nobody else changes until the transaction ends.

    Raises `NOT_FOUND`.
    """
    return _existing(await projects.lock(connection, command.project_id), command)


async def require_no_order(connection: Connection, command: ProjectCommand[Any]) -> None:
    """Raise `CONFLICT` while an order of the project goes on."""
    order = await orders.active(connection, command.project_id)
    if order is not None:
        raise in_progress(command, order)


def in_progress(command: ProjectCommand[Any], order: OrderRow) -> CertwireError:
    """Return the refusal of what has to wait for an order."""
    return CertwireError(
        ErrorCode.CONFLICT,
        "A certificate order is already in progress",
        parameters={"order": str(order.id)},
        actor=command.actor,
    )


def no_certificate(command: ProjectCommand[Any]) -> CertwireError:
    """Return the refusal of what needs a certificate."""
    return CertwireError(ErrorCode.NOT_FOUND, NO_CERTIFICATE, actor=command.actor)


def project_object(found: Project) -> AuditObject:
    """Return a project as an audit record names it."""
    return AuditObject(type="project", id=found.id, name=found.name)


def _existing(found: Project | None, command: ProjectCommand[Any]) -> Project:
    if found is None:
        raise CertwireError(ErrorCode.NOT_FOUND, NO_PROJECT, actor=command.actor)
    return found
