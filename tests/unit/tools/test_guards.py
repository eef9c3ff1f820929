"""Each guard finds its breach in a tree of a few files, and nothing in one that keeps the rules."""

from pathlib import Path

import pytest

from tools import guards


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository that keeps every rule."""
    write(tmp_path, "contracts/subjects.py", 'SIGN = "certwire.issuer.certificate.sign"\n')
    write(tmp_path, "services/issuer/store.py", 'QUERY = """\nSELECT 1"""\n')
    write(tmp_path, "tests/unit/contracts/test_subjects.py", "")
    write(tmp_path, "tests/unit/services/issuer/test_store.py", "")
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def found(root: Path) -> list[str]:
    return [str(breach) for breach in guards.breaches(root)]


def test_nothing_is_found_where_the_rules_are_kept(root: Path) -> None:
    assert found(root) == []


FUNCTION = "def f() -> None: ...\n"


def test_a_module_without_its_test_file(root: Path) -> None:
    write(root, "shared/clock.py", FUNCTION)
    assert found(root) == ["shared/clock.py:1: has no test file: tests/unit/shared/test_clock.py"]


def test_modules_of_a_package_in_a_service_may_share_a_test_file(root: Path) -> None:
    write(root, "services/issuer/domain/serials.py", FUNCTION)
    one, other = (
        "tests/unit/services/issuer/domain/test_serials.py",
        "tests/unit/services/issuer/test_domain.py",
    )
    assert found(root) == [
        f"services/issuer/domain/serials.py:1: has no test file: {one} or {other}"
    ]
    write(root, other, "")
    assert found(root) == []


def test_a_package_that_has_functions_is_a_module_as_well(root: Path) -> None:
    write(root, "shared/telemetry/__init__.py", FUNCTION)
    assert found(root) == [
        "shared/telemetry/__init__.py:1: has no test file: tests/unit/shared/test_telemetry.py"
    ]


def test_a_module_without_functions_needs_no_test_file(root: Path) -> None:
    write(root, "contracts/audit.py", "import os\nclass Record:\n    name: str\n")
    assert found(root) == []


@pytest.mark.parametrize("text", ['"certwire.issuer.ca.list"', 'f"certwire.events.{noun}.*"'])
def test_a_subject_elsewhere(root: Path, text: str) -> None:
    write(root, "services/issuer/store.py", f"noun = ''\nX = {text}\n")
    assert found(root) == ["services/issuer/store.py:2: a subject outside contracts/subjects.py"]


def test_a_subject_in_a_docstring_is_prose(root: Path) -> None:
    write(root, "services/issuer/store.py", '"""certwire.issuer.ca.list is answered here."""\n')
    assert found(root) == []


@pytest.mark.parametrize(
    "text", ["SELECT 1 FROM x", "INSERT INTO x", "WITH a AS (", "UPDATE x SET y = 1"]
)
def test_sql_elsewhere(root: Path, text: str) -> None:
    write(root, "services/issuer/app.py", f"X = '{text} '\n")
    assert found(root) == ["services/issuer/app.py:1: SQL outside stores and migrations"]


@pytest.mark.parametrize("text", ["Update the list", "with a note", "select one"])
def test_prose_is_not_sql(root: Path, text: str) -> None:
    write(root, "services/issuer/app.py", f"X = '{text}'\n")
    assert found(root) == []


def test_a_name_that_says_nothing(root: Path) -> None:
    write(root, "tests/helpers/trees.py", "")
    assert found(root) == ["tests/helpers/trees.py:1: 'helpers' says nothing about what is in it"]


SUPPRESSION = "a suppression without its rule or its reason"


@pytest.mark.parametrize(
    "comment", ["no" + "qa", "no" + "qa: S101", "type: " + "ignore", "type: " + "ignore[misc]"]
)
def test_a_suppression_without_rule_or_reason(root: Path, comment: str) -> None:
    write(root, "tests/unit/test_x.py", f"x = 1  # {comment}\n")
    assert found(root) == [f"tests/unit/test_x.py:1: {SUPPRESSION}"]


@pytest.mark.parametrize(
    "comment",
    [
        "no" + "qa: S101 - narrows the type",
        "no" + "qa: A001, A002 - the field's name",
        "type: " + "ignore[misc]  # no annotations",
    ],
)
def test_a_suppression_with_rule_and_reason(root: Path, comment: str) -> None:
    write(root, "tests/unit/test_x.py", f"x = 1  # {comment}\n")
    assert found(root) == []
