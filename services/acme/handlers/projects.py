"""Projects, and which domain each has."""

import asyncpg

from contracts.acme import (
    CreateProject,
    DeleteProject,
    GetProject,
    ListProjects,
    Project,
    ProjectPage,
    RemoveDomain,
    SetDomain,
)
from contracts.audit import AuditObject
from contracts.errors import CertwireError, ErrorCode
from contracts.events import ProjectCreated, ProjectDeleted, ProjectUpdated
from contracts.messages import Done
from services.acme.domain.permissions import authorise
from services.acme.handlers.access import locked, project_object, require_no_order
from services.acme.handlers.access import project as found_project
from services.acme.handlers.certificates import removed
from services.acme.service import Acme
from services.acme.store import certificates, projects
from shared import cursors


async def list_projects(command: ListProjects, acme: Acme) -> ProjectPage:
    """Return a page of projects, in the order of their making."""
    authorise(command.actor, command)
    after = cursors.decode(command.cursor) or 0
    async with acme.runtime.database.connection() as connection:
        found = await projects.page(connection, after, command.limit + 1)
    shown = found[: command.limit]
    more = len(found) > len(shown)
    return ProjectPage(
        projects=tuple(project for _, project in shown),
        next_cursor=cursors.encode(shown[-1][0] if more else None),
    )


async def get_project(command: GetProject, acme: Acme) -> Project:
    """Return a project."""
    authorise(command.actor, command)
    async with acme.runtime.database.connection() as connection:
        return await found_project(connection, command)


async def create_project(command: CreateProject, acme: Acme) -> Project:
    """Make a project that has no domain yet."""
    authorise(command.actor, command)
    async with acme.runtime.unit_of_work(command) as work:
        made = await projects.insert(
            work.connection, command.project_id, command.name, command.description
        )
        if made is None:
            raise CertwireError(
                ErrorCode.ALREADY_EXISTS, "Project already exists", actor=command.actor
            )
        work.record(
            command.actor,
            "project_create",
            project_object(made),
            event=ProjectCreated(project_id=made.id, name=made.name, domain=None),
        )
        return await work.answer(made)


async def delete_project(command: DeleteProject, acme: Acme) -> Done:
    """Delete a project with its certificate and its orders."""
    authorise(command.actor, command)
    async with acme.runtime.unit_of_work(command) as work:
        project = await locked(work.connection, command)
        await require_no_order(work.connection, command)
        certificate = await certificates.of_kind(work.connection, project.id, staging=False)
        if certificate is not None:
            work.record(
                command.actor,
                "cert_remove",
                AuditObject(
                    type="certificate", id=certificate.fingerprint, name=certificate.domain
                ),
                event=removed(certificate),
                detail={"project_id": project.id},
            )
        await projects.delete(work.connection, project.id)
        work.record(
            command.actor,
            "project_delete",
            project_object(project),
            event=ProjectDeleted(project_id=project.id, name=project.name, domain=project.domain),
        )
        return await work.answer(Done())


async def set_domain(command: SetDomain, acme: Acme) -> Project:
    """Say which domain a project has."""
    authorise(command.actor, command)
    try:
        return await _change_domain(command, command.domain, acme)
    except asyncpg.UniqueViolationError:  # another project took it at the same moment
        raise _taken(command) from None


async def remove_domain(command: RemoveDomain, acme: Acme) -> Project:
    """Let a project have no domain."""
    authorise(command.actor, command)
    return await _change_domain(command, None, acme)


async def _change_domain(
    command: SetDomain | RemoveDomain, domain: str | None, acme: Acme
) -> Project:
    async with acme.runtime.unit_of_work(command) as work:
        project = await locked(work.connection, command)
        if domain is None and project.domain is None:
            raise CertwireError(
                ErrorCode.NOT_FOUND, "Project has no domain configured", actor=command.actor
            )
        if project.domain == domain:
            return await work.answer(project)
        await require_no_order(work.connection, command)
        if domain is not None:
            owner = await projects.owner_of(work.connection, domain)
            if owner is not None:
                raise _taken(command)
        certificate = await certificates.visible(work.connection, project.id)
        if certificate is not None and certificate.domain != domain:
            raise CertwireError(
                ErrorCode.CONFLICT,
                f"Project has a certificate for {certificate.domain}; remove it first",
                actor=command.actor,
            )
        changed = await projects.set_domain(work.connection, project.id, domain)
        work.record(
            command.actor,
            "project_set_domain" if domain is not None else "project_remove_domain",
            project_object(project),
            detail={"domain": domain, "former": project.domain},
            event=ProjectUpdated(project_id=project.id, name=project.name, domain=domain),
        )
        return await work.answer(changed)


def _taken(command: SetDomain | RemoveDomain) -> CertwireError:
    return CertwireError(
        ErrorCode.CONFLICT, "Domain belongs to another project", actor=command.actor
    )
