"""Tests of tests.support.scheduling."""

from tests.support.scheduling import scope_of


def test_tests_of_one_platform_stay_together() -> None:
    shared = {scope_of(f"tests/e2e/test_{name}.py::test_it[a::b]") for name in ("audit", "readme")}
    own = {scope_of("tests/e2e/test_running_it.py::test_it")}
    chaos = {scope_of(f"tests/chaos/test_{name}.py::test_it") for name in ("a", "a", "b")}
    assert len(shared | own | chaos) == 4


def test_others_go_where_there_is_time() -> None:
    assert len({scope_of(f"tests/unit/test_a.py::test_{name}") for name in "abc"}) == 3
