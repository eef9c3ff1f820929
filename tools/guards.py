"""Rules of this repository that no general tool knows. Prints each breach; exit code 1 if any."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGES: Final = ("contracts", "shared", "services")
FORBIDDEN_NAMES: Final = {"base", "common", "helper", "helpers", "misc", "util", "utils"}

ACME: Final = "tests/contract/acme"
GATEWAY: Final = "tests/contract/gateway"
INSTANCE: Final = "tests/contract/instance"
ISSUER: Final = "tests/unit/services/issuer"
# Modules that are tested through a service's face, in dialogues: module pattern → test file.
TESTED_BY: Final[dict[str, str]] = {
    "contracts/kek.py": "tests/contract/test_kek.py",
    "shared/broker.py": "tests/contract/test_broker.py",
    "shared/expiry.py": "tests/unit/services/issuer/test_expiry.py",
    "shared/relay.py": "tests/contract/test_relay.py",
    "shared/rewrapping.py": "tests/contract/test_kek.py",
    "shared/runtime.py": "tests/contract/test_runtime.py",
    "shared/sealed_columns.py": "tests/contract/test_kek.py",
    "shared/streams.py": "tests/contract/test_stream_publisher.py",
    "services/acme/handlers/preflight.py": "tests/contract/acme/test_preflight.py",
    "services/acme/preflight.py": "tests/contract/acme/test_preflight.py",
    "services/acme/store/challenges.py": "tests/contract/acme/test_preflight.py",
    "services/acme/store/expiring.py": "tests/unit/services/acme/test_expiry.py",
    "services/cli/agent_*.py": "tests/unit/services/cli/test_agent_run.py",
    "services/cli/kek*.py": "tests/e2e/test_kek.py",
    "services/cli/subscriber_*.py": "tests/unit/services/cli/test_subscribers.py",
    "services/gateway/*.py": f"{GATEWAY}/test_http.py",
    "services/gateway/http_challenges.py": f"{GATEWAY}/test_http_challenges.py",
    "services/gateway/orders.py": f"{GATEWAY}/test_project.py",
    "services/acme/store/condition.py": "tests/unit/services/acme/test_condition.py",
    "services/acme/answers.py": f"{ACME}/test_dns.py",
    "services/acme/app.py": f"{ACME}/test_orders.py",
    "services/acme/beginning.py": f"{ACME}/test_orders.py",
    "services/acme/handlers/*.py": f"{ACME}/test_projects.py",
    "services/acme/leases.py": f"{ACME}/test_crashes.py",
    "services/acme/ordering.py": f"{ACME}/test_crashes.py",
    "services/acme/outcome.py": f"{ACME}/test_orders.py",
    "services/acme/renewals.py": f"{ACME}/test_renewals.py",
    "services/acme/service.py": f"{ACME}/test_orders.py",
    "services/acme/store/*.py": f"{ACME}/test_projects.py",
    "services/acme/workers.py": f"{ACME}/test_orders.py",
    "services/audit/handlers.py": "tests/unit/services/audit/test_log.py",
    "services/gateway/dialects/fastpki/*.py": f"{GATEWAY}/test_token_endpoint.py",
    "services/gateway/dialects/fastpki/audit_logs.py": f"{GATEWAY}/test_audit_logs.py",
    "services/gateway/dialects/fastpki/certificates.py": f"{GATEWAY}/test_certificates.py",
    "services/gateway/dialects/instance*.py": f"{GATEWAY}/test_instance_calls.py",
    "services/gateway/dialects/portlama*.py": f"{GATEWAY}/test_portlama.py",
    "services/gateway/dialects/dialect.py": f"{GATEWAY}/test_http.py",
    "services/gateway/dialects/pem_file.py": f"{GATEWAY}/test_certificates.py",
    "services/gateway/dialects/project/*.py": f"{GATEWAY}/test_project.py",
    "services/instance/*.py": f"{INSTANCE}/test_renewals.py",
    "services/instance/handlers/administration.py": f"{INSTANCE}/test_administration.py",
    "services/instance/handlers/credentials.py": f"{INSTANCE}/test_administration.py",
    "services/instance/handlers/certificates.py": f"{INSTANCE}/test_renewals.py",
    "services/instance/handlers/inbound.py": f"{INSTANCE}/test_inbound.py",
    "services/instance/handlers/secrets.py": f"{INSTANCE}/test_administration.py",
    "services/instance/store/*.py": f"{INSTANCE}/test_renewals.py",
    "services/issuer/issuing.py": f"{ISSUER}/handlers/test_certificates.py",
    "services/issuer/views.py": f"{ISSUER}/handlers/test_certificates.py",
    "services/registry/*.py": "tests/unit/services/registry/test_admin.py",
    "services/registry/store/*.py": "tests/unit/services/registry/test_admin.py",
}

SUBJECTS_MODULE: Final = "contracts/subjects.py"
SUBJECT: Final = re.compile(
    r"certwire\.(acme|audit|events|gateway|inbound|instance|issuer|registry)\b"
)

SQL_MODULES: Final = (
    "services/*/store*.py",
    "services/*/store/*.py",
    "services/provisioning/postgres.py",
    "shared/database.py",
    "shared/expiry.py",
    "shared/idempotency.py",
    "shared/inbox.py",
    "shared/migrations/*.py",
    "shared/outbox.py",
    "shared/relay.py",
    "shared/sealed_columns.py",
)
SQL: Final = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|WITH \w+ AS|MERGE INTO|TRUNCATE|COPY"
    r"|(CREATE|ALTER|DROP) (TABLE|INDEX|SCHEMA|ROLE|DATABASE|VIEW|FUNCTION)|GRANT|REVOKE)\s"
)

SUPPRESSION: Final = re.compile(
    r"#\s*(noqa|type: ignore)(?P<rule>: ?[A-Z]+\d+(, ?[A-Z]+\d+)*|\[[\w\-, ]+\])?(?P<reason>.*)"
)


@dataclass(frozen=True)
class Breach:
    """What is wrong where."""

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


def modules(root: Path, *packages: str) -> Iterator[Path]:
    """Yield the Python files of some packages, relative to the root."""
    for package in packages:
        yield from sorted(path.relative_to(root) for path in (root / package).rglob("*.py"))


def matches(path: Path, patterns: tuple[str, ...]) -> bool:
    """Return whether one of the patterns fits the whole path."""
    return any(path.match(pattern) for pattern in patterns)


def untested_modules(root: Path) -> Iterator[Breach]:
    """Every module has its test file at the same place below tests/unit.

    The modules of a package inside a service may share one, named for the package. Where there is
    no function (fields, constants, SQL) there is nothing to run.
    """
    for path in modules(root, *PACKAGES):
        if not has_functions(root / path):
            continue
        module = path.parent if path.name == "__init__.py" else path.with_suffix("")
        accepted = [test for pattern, test in TESTED_BY.items() if path.match(pattern)]
        accepted += [test_file(module)]
        if len(module.parts) > len(("services", "name", "module")):
            accepted += [test_file(module.parent)]
        if not any((root / test).is_file() for test in accepted):
            yield Breach(path, 1, f"has no test file: {' or '.join(accepted)}")


def test_file(module: Path) -> str:
    """Return where the tests of a module belong."""
    return f"tests/unit/{module.parent}/test_{module.name}.py"


def has_functions(path: Path) -> bool:
    """Return whether there is anything in a module that runs when it is called."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, functions) for node in ast.walk(ast.parse(path.read_text())))


def stray_strings(root: Path) -> Iterator[Breach]:
    """Subjects stand in one module only, SQL in stores and migrations only."""
    for path in modules(root, *PACKAGES):
        tree = ast.parse((root / path).read_text())
        may_subjects = str(path) == SUBJECTS_MODULE
        may_sql = matches(path, SQL_MODULES)
        for line, text in strings(tree):
            if not may_subjects and SUBJECT.match(text):
                yield Breach(path, line, f"a subject outside {SUBJECTS_MODULE}")
            if not may_sql and SQL.match(text):
                yield Breach(path, line, "SQL outside stores and migrations")


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield all texts of a module but its docstrings."""
    described = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in described:
            yield node.lineno, node.value


def forbidden_names(root: Path) -> Iterator[Breach]:
    """No module is named for having no topic."""
    for path in modules(root, *PACKAGES, "tests", "tools"):
        for part in path.with_suffix("").parts:
            if part in FORBIDDEN_NAMES:
                yield Breach(path, 1, f"'{part}' says nothing about what is in it")


def bare_suppressions(root: Path) -> Iterator[Breach]:
    """Whatever silences a tool names the rule and the reason."""
    for path in modules(root, *PACKAGES, "tests", "tools"):
        for number, line in enumerate((root / path).read_text().splitlines(), start=1):
            found = SUPPRESSION.search(line)
            if found and not (found["rule"] and found["reason"].strip(" -#")):
                yield Breach(path, number, "a suppression without its rule or its reason")


def breaches(root: Path) -> list[Breach]:
    """Return everything that breaks a rule."""
    guards = (untested_modules, stray_strings, forbidden_names, bare_suppressions)
    return [breach for guard in guards for breach in guard(root)]


def main() -> int:
    """Check the repository that this file lies in."""
    found = breaches(Path(__file__).resolve().parent.parent)
    for breach in found:
        print(breach)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
