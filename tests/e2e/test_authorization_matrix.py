"""Who may call what: every route of the gateway by every kind of caller, over TLS.

The routes are the gateway's own; one that no table has fails, and so does a row without a route.
The tables are `authorization/rows_*.py`, one a dialect; each of their cells says what is answered.
"""

import importlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.routing import Route

from services.gateway.app import Gateway
from services.gateway.edge import Edge
from services.gateway.settings import GatewaySettings
from shared.http_server import HttpServer
from tests.e2e.authorization.callers import WHO, Stage, connection_of, forged_headers
from tests.e2e.authorization.table import CALLERS, PLAIN, TLS, Row
from tests.support.client import TRANSPORT_ERRORS, Client
from tests.support.platform import Platform

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ELSEWHERE = (
    ("/api/v1/auth", "tests/e2e/test_fastpki_users.py"),
    ("/api/v1/users", "tests/e2e/test_fastpki_users.py"),
    ("/api/v1/organizations", "tests/e2e/test_fastpki_users.py"),
    ("/api/v1/cas", "tests/e2e/test_fastpki_permissions.py"),
    ("/api/v1/certificates", "tests/e2e/test_fastpki_permissions.py"),
    ("/api/v1/export", "tests/e2e/test_fastpki_permissions.py"),
    ("/api/v1/audit-logs", "tests/e2e/test_fastpki_permissions.py"),
)
"""Prefixes of routes that have a matrix of their own, and where that is."""

STATE = """
SELECT id::text, label, capabilities::text || allowed_sites::text, fingerprint, revoked_at::text
FROM registry.agent
UNION ALL SELECT 'token', label, state, hash, expires_at::text FROM registry.enrollment_token
UNION ALL SELECT 'admin', fingerprint, state, NULL, revoked_at::text FROM registry.admin_certificate
UNION ALL SELECT id::text, status, current_fingerprint, renewed_at::text, md5(secrets)
FROM instance.instance
UNION ALL SELECT 'token', hash, NULL, NULL, spent_at::text FROM instance.bootstrap_token
UNION ALL SELECT 'inventory', fingerprint, revocation_reason, NULL, NULL FROM instance.certificate
UNION ALL SELECT 'issued', fingerprint, NULL, NULL, NULL FROM issuer.certificate
WHERE kind IN ('admin', 'agent', 'instance')  -- others come by themselves
UNION ALL SELECT id::text, 'API key', name, projects || keys, deleted_at::text FROM registry.api_key
UNION ALL SELECT id, 'project', name, domain, updated_at::text FROM acme.project
UNION ALL SELECT id::text, 'order', project_id, state, NULL FROM acme.acme_order
ORDER BY 1, 2, 3, 4, 5
"""
"""All that the calls of the matrix could change."""


def rows() -> list[Row]:
    """Return the rows of all tables, those at the end that end their caller."""
    found: list[Row] = []
    for path in sorted((HERE / "authorization").glob("rows_*.py")):
        found += importlib.import_module(f"tests.e2e.authorization.{path.stem}").TABLE
    return sorted(found, key=lambda row: row.last)


ROWS = rows()


# --- The matrix ---------------------------------------------------------------------------------


@pytest.mark.parametrize("who", CALLERS)
async def test_everybody_may_do_what_the_tables_say(
    changing: Platform, chief: Client, address: str, who: str
) -> None:
    stage = await Stage.prepare(changing, chief, address)
    async with WHO[who](stage) as client:
        before = await changing.rows(STATE)
        found = {row.route: await answer(client, row, stage) for row in ROWS}
        after = await changing.rows(STATE)
    assert found == {row.route: row.cell(who) for row in ROWS}
    if not any(row.changes and row.cell(who).startswith("2") for row in ROWS):
        assert before == after, "a call that was refused has changed something"


async def answer(client: Client, row: Row, stage: Stage) -> str:
    """Return what a call is answered, as a cell has it."""
    method, _, route = row.route.partition(" ")
    path = stage.url(filled(row.path or route, stage.names))
    body = filled(row.body, stage.names)
    options = {} if body is None else {"data" if row.form else "json": body}
    try:
        response = await client.call(method, path, **options)
    except httpx2.TimeoutException:
        raise
    except TRANSPORT_ERRORS:
        return TLS
    if stage.used and response.url.scheme == "https":
        assert connection_of(response) in stage.used, "it came over another connection"
    text = words(response) if response.status_code >= 400 else ""
    return f"{response.status_code} {text}".rstrip()


def words(response: httpx2.Response) -> str:
    """Return the text of a refusal, whichever dialect has it; what is no JSON has none."""
    if not response.content or not response.headers["content-type"].endswith("json"):
        return ""
    said = response.json()
    return str(said.get("error") or said.get("detail") or said["title"])


def filled(value: Any, names: dict[str, str]) -> Any:  # noqa: ANN401 - any JSON
    """Return a path or a body with names in the place of their `{…}`."""
    if isinstance(value, dict):
        return {key: filled(item, names) for key, item in value.items()}
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"{{{name}}}", text)
    return value


async def test_an_address_is_not_what_a_header_says(changing: Platform, address: str) -> None:
    """Or the limit of logins would be none."""
    certificate = (changing.bootstrap / "admin.crt").read_text()
    form = {"username": "somebody", "password": "wrong"}
    found = []
    async with Client(changing, address=address) as nobody:
        for number in range(6):
            headers = {
                name: text.replace("127.0.0.1", f"192.0.2.{number}")
                for name, text in forged_headers(certificate).items()
            }
            response = await nobody.call("POST", "/api/v1/auth/token", data=form, headers=headers)
            found.append(response.status_code)
    assert found == [401] * 5 + [429]


# --- The tables are whole -----------------------------------------------------------------------


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """Return a gateway that serves nobody."""
    gateway = Gateway(GatewaySettings(home=tmp_path, https_port=0, http_port=0))
    yield gateway
    await gateway.stop()


def routes(gateway: Gateway) -> set[str]:
    """Return all routes of both ports, documented or not; with a slash at the end is the same."""
    return {
        f"{method} {port}{route.path.rstrip('/')}"
        for port, server in (("", gateway.https), (PLAIN, gateway.http))
        for route in api(server).routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }


def api(server: HttpServer) -> FastAPI:
    """Return what a port serves."""
    edge = server._server.config.app
    assert isinstance(edge, Edge)
    assert all(isinstance(route, Route) for route in edge._api.routes)
    return edge._api


async def test_every_route_has_a_row_and_every_row_a_route(gateway: Gateway) -> None:
    found, written = routes(gateway), [row.route for row in ROWS]
    assert len(written) == len(set(written)), "two rows for one route"
    without = found - set(written)
    assert {route for route in without if matrix_of(route) is None} == set()
    assert set(written) - found == set()


def matrix_of(route: str) -> str | None:
    """Return the file that has the matrix of a route."""
    path = route.partition(" ")[2]
    return next((file for prefix, file in ELSEWHERE if f"{path}/".startswith(f"{prefix}/")), None)


async def test_a_matrix_elsewhere_is_there_once_there_is_something_for_it(
    gateway: Gateway,
) -> None:
    written = {row.route for row in ROWS}
    files = {matrix_of(route) for route in routes(gateway) - written} - {None}
    assert {file for file in files if not (ROOT / str(file)).is_file()} == set()


async def test_the_gateway_that_runs_has_these_routes(changing: Platform, gateway: Gateway) -> None:
    async with Client(changing) as anybody:
        described = (await anybody.call("GET", "/openapi.json")).json()
    assert described["paths"].keys() == api(gateway.https).openapi()["paths"].keys()


def test_every_cell_is_written_down() -> None:
    assert set(WHO) == set(CALLERS)
    for row in ROWS:
        assert all(row.cell(caller) for caller in CALLERS), row.route
        assert list(row.unknown()) == [], row.route
