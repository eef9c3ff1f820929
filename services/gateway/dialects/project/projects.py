"""`/api/v1/projects`: what certificates are for, and the domain of each."""

from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from contracts.acme import (
    CreateProject,
    DeleteProject,
    Domain,
    GetProject,
    ListProjects,
    Project,
    ProjectId,
    ProjectStatus,
    RemoveDomain,
    SetDomain,
)
from contracts.errors import ErrorCode
from contracts.messages import PAGE_LIMIT
from contracts.pki import OneLine
from services.gateway.dialects.project.forms import (
    COMMON,
    LIST_LIMIT,
    PAGE_DEFAULT,
    Answer,
    Cursor,
    Id,
    Limit,
    Moment,
    Sent,
    Success,
    caller_of,
    group,
)
from services.gateway.exchange import Current, Exchange
from services.gateway.refusals import Refusal

PREFIX: Final = "/api/v1/projects"
NO_NUL: Final = r"^[^\x00]*$"
"""Postgres cannot hold U+0000."""


def _in_lower_case(name: Any) -> Any:  # noqa: ANN401 - whatever was sent
    """Return a name as DNS compares it (RFC 4343)."""
    return name.lower() if isinstance(name, str) and name.isascii() else name


class NewProject(Sent):
    id: ProjectId
    name: OneLine
    description: Annotated[str, Field(max_length=1000, pattern=NO_NUL)] | None = None


class ProjectView(Answer):
    id: str
    name: str
    description: str | None
    status: ProjectStatus
    domain: str | None
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, project: Project) -> "ProjectView":
        """Return a project as the dialect shows it."""
        return cls(**project.model_dump())


class ProjectList(Answer):
    projects: list[ProjectView]


class ProjectListPage(ProjectList):
    """A page, or the first 10,000 of more projects than that."""

    next_cursor: str | None


class CreatedProject(Answer):
    success: Literal[True] = True
    project: ProjectView


class NewDomain(Sent):
    """A host, or a wildcard in front of one: `*.example.com`."""

    domain: Annotated[Domain, BeforeValidator(_in_lower_case)]


class DomainView(Answer):
    domain: str


class ChangedDomain(DomainView):
    success: Literal[True] = True


router = group(
    PREFIX,
    "projects",
    {
        ErrorCode.NOT_FOUND: COMMON[ErrorCode.NOT_FOUND],
        ErrorCode.ALREADY_EXISTS: Refusal(
            HTTPStatus.CONFLICT, "Project already exists", explains=True
        ),
        ErrorCode.CONFLICT: COMMON[ErrorCode.CONFLICT],
    },
)
domains = group(
    f"{PREFIX}/{{id}}/domain",
    "projects",
    {
        ErrorCode.NOT_FOUND: COMMON[ErrorCode.NOT_FOUND],
        ErrorCode.CONFLICT: COMMON[ErrorCode.CONFLICT],
        ErrorCode.AGAINST_POLICY: COMMON[ErrorCode.AGAINST_POLICY],
    },
)


@router.get("")
async def list_projects(
    exchange: Current, limit: Limit = None, cursor: Cursor = None
) -> ProjectListPage | ProjectList:
    """List projects in the order of their making; without parameters all, up to 10,000."""
    if limit is not None or cursor is not None:
        found, following = await _projects(exchange, limit or PAGE_DEFAULT, cursor)
    else:
        found, following = await _projects(exchange, LIST_LIMIT, None)
    views = list(map(ProjectView.of, found))
    if limit is None and cursor is None and following is None:
        return ProjectList(projects=views)
    return ProjectListPage(projects=views, next_cursor=following)


@router.post("/create", status_code=HTTPStatus.CREATED)
async def create_project(body: NewProject, exchange: Current) -> CreatedProject:
    """Make a project."""
    actor, call = await caller_of(exchange)
    project = await exchange.request(
        CreateProject(
            call=call,
            actor=actor,
            project_id=body.id,
            name=body.name,
            description=body.description,
        )
    )
    return CreatedProject(project=ProjectView.of(project))


@router.get("/{id}")
async def get_project(project_id: Id, exchange: Current) -> ProjectView:
    """Show a project."""
    actor, call = await caller_of(exchange)
    return ProjectView.of(
        await exchange.request(GetProject(call=call, actor=actor, project_id=project_id))
    )


@router.delete("/{id}")
async def delete_project(project_id: Id, exchange: Current) -> Success:
    """Delete a project with its certificate and key; the certificate is not revoked by this."""
    actor, call = await caller_of(exchange)
    await exchange.request(DeleteProject(call=call, actor=actor, project_id=project_id))
    return Success(message="Project deleted")


@domains.get("")
async def get_domain(project_id: Id, exchange: Current) -> DomainView | None:
    """Show the domain of a project, null where it has none."""
    actor, call = await caller_of(exchange)
    project = await exchange.request(GetProject(call=call, actor=actor, project_id=project_id))
    return None if project.domain is None else DomainView(domain=project.domain)


@domains.post("")
async def set_domain(project_id: Id, body: NewDomain, exchange: Current) -> ChangedDomain:
    """Say which domain a project has."""
    actor, call = await caller_of(exchange)
    await exchange.request(
        SetDomain(call=call, actor=actor, project_id=project_id, domain=body.domain)
    )
    return ChangedDomain(domain=body.domain)


@domains.delete("")
async def remove_domain(project_id: Id, exchange: Current) -> Success:
    """Let a project have no domain."""
    actor, call = await caller_of(exchange)
    await exchange.request(RemoveDomain(call=call, actor=actor, project_id=project_id))
    return Success(message="Domain removed")


async def _projects(
    exchange: Exchange, limit: int, cursor: str | None
) -> tuple[list[Project], str | None]:
    """Return `limit` projects after the cursor and the cursor after them, page by page."""
    actor, call = await caller_of(exchange)
    found: list[Project] = []
    while True:
        size = min(PAGE_LIMIT, limit - len(found))
        page = await exchange.request(
            ListProjects(call=call, actor=actor, limit=size, cursor=cursor)
        )
        found += page.projects
        cursor = page.next_cursor
        if cursor is None or len(found) >= limit:
            return found, cursor
