"""Who may call what of the fastpki dialect: every route by every kind of caller, over TLS.

The routes are the gateway's own; one that the table has no row for fails, and so does a row without
a route. The table is `permissions/table.py`: each of its cells says what is answered.
"""

import re
from typing import Any

import pytest

from services.gateway.dialects.fastpki import FASTPKI
from tests.e2e.permissions.people import Stage
from tests.e2e.permissions.table import CALLERS, KEY, NOBODY, TABLE, Row
from tests.support.client import Client
from tests.support.platform import Platform

STATE = """
SELECT 'ca', id, state, NULL FROM issuer.ca
UNION ALL SELECT 'grant', ca_id, user_id::text, capabilities::text FROM issuer.ca_grant
UNION ALL SELECT 'certificate', id, revoked_at::text, NULL FROM issuer.certificate
WHERE organization_id IS NOT NULL  -- others come by themselves
UNION ALL SELECT 'user', id, email, organization_id::text FROM registry.users
UNION ALL SELECT 'organization', id, name, NULL FROM registry.organization
ORDER BY 1, 2, 3
"""
"""What the calls of the matrix could change."""
ENDS_A_SESSION = ("/auth/logout", "/auth/invalidate")
_stages: dict[Platform, Stage] = {}


@pytest.fixture
async def stage(platform: Platform) -> Stage:
    """Return the callers, who are made once."""
    if platform not in _stages:
        _stages[platform] = await Stage.prepare(platform)
    return _stages[platform]


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.timeout(300)
async def test_everybody_may_do_what_the_table_says(
    platform: Platform, stage: Stage, who: str
) -> None:
    found, expected = {}, {}
    before = await platform.rows(STATE)
    for number, row in enumerate(TABLE):
        cell = f"{number} {row.route} {row.path or ''}"
        expected[cell] = row.cell(who)
        found[cell] = await status(stage, row, who)
    after = await platform.rows(STATE)
    assert found == expected
    if who in {*NOBODY, KEY}:
        assert before == after, "a call that was refused has changed something"


async def status(stage: Stage, row: Row, who: str) -> int:
    """Return what a caller is answered."""
    names = await stage.for_one_call(row, who)
    method, _, route = row.route.partition(" ")
    path, body = filled(row.path or route, names), filled(row.body, names)
    token = None
    if route.endswith(ENDS_A_SESSION) and who in row.allowed:
        token = await stage.token(who)
    async with stage.client(who, token) as client:
        options = {} if body is None else {"data" if row.form else "json": body}
        answer = await client.call(method, path, **options)
    if route.endswith("/auth/invalidate") and who in row.allowed:
        stage.tokens[who] = await stage.token(who)
    if answer.status_code >= 400:
        assert answer.json()["detail"]
    return answer.status_code


def filled(value: Any, names: dict[str, str]) -> Any:  # noqa: ANN401 - any JSON
    """Return a path or a body with names in the place of their `{…}`."""
    if isinstance(value, dict):
        return {key: filled(item, names) for key, item in value.items()}
    if value == "{ca_id}":
        return int(names["ca_id"])
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], value)
    return value


# --- The table is whole --------------------------------------------------------------------------


def routes() -> set[str]:
    """Return all routes of the dialect; with a slash at the end is the same."""
    return {
        f"{method} {getattr(route, 'path').rstrip('/')}"  # noqa: B009 - the type is starlette's
        for route in FASTPKI.routes
        for method in getattr(route, "methods", ())
    }


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert routes() ^ {row.route for row in TABLE} == set()


def test_every_cell_is_written_down() -> None:
    for row in TABLE:
        assert list(row.unknown()) == [], row.route
        assert {row.cell(who) for who in NOBODY} <= {401, 403}, row.route


async def test_with_and_without_a_slash(stage: Stage) -> None:
    async with stage.client("superuser") as client:
        for path in ("/cas", "/certificates", "/users", "/organizations", "/audit-logs"):
            for slash in ("", "/"):
                assert (await client.call("GET", f"/api/v1{path}{slash}")).status_code == 200


async def test_a_certificate_of_the_administrator_is_no_token(
    platform: Platform, admin: Client
) -> None:
    del platform
    for row in TABLE:
        if row.route.startswith("GET ") and "{" not in row.route:
            assert (await admin.call("GET", row.route.partition(" ")[2])).status_code == 401
