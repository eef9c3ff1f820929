"""Every SQL statement in the code PREPAREs against the migrated schema, as its service's role."""

import ast
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from contracts.subjects import Service
from services.provisioning.postgres import SERVICES
from shared.database import SESSION, role_url
from shared.settings import Settings
from tests.support.servers import Place
from tools import guards

ROOT = Path(guards.__file__).parent.parent
MECHANISM = [
    path for path in guards.modules(ROOT, "shared") if guards.matches(path, guards.SQL_MODULES)
]


OF_SOME = {"shared/expiry.py": {Service.ISSUER, Service.ACME}}
"""Mechanism with tables that not every service has."""


def mechanism(service: str) -> list[Path]:
    return [path for path in MECHANISM if service in OF_SOME.get(str(path), {service})]


def stores(service: str) -> list[Path]:
    patterns = (f"services/{service}/store*.py", f"services/{service}/store/*.py")
    return [path for path in guards.modules(ROOT, "services") if guards.matches(path, patterns)]


def statements(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each whole statement with its place; parts of f-strings are none."""
    tree = ast.parse((ROOT / path).read_text())
    parts = {
        part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node in parts:
            continue
        if isinstance(node.value, str) and guards.SQL.match(node.value):
            yield f"{path}:{node.lineno}", node.value


@pytest.mark.parametrize("service", SERVICES)
async def test_every_query_fits_the_schema(service: str, place: Place) -> None:
    url = role_url(place.settings(Settings), service)
    connection = await asyncpg.connect(
        url, server_settings={**SESSION, "search_path": str(service)}
    )
    wrong = []
    try:
        for path in [*mechanism(service), *stores(service)]:
            for where, statement in statements(path):
                try:
                    await connection.prepare(statement)
                except asyncpg.PostgresError as error:
                    wrong.append(f"{where}: {error}")
    finally:
        await connection.close()
    assert not wrong, "\n".join(wrong)


def test_there_are_queries_to_look_at() -> None:
    assert any(list(statements(path)) for path in MECHANISM)
    assert {str(path) for path in MECHANISM} > set(OF_SOME)
    assert any(list(statements(path)) for path in stores("issuer"))
