"""Refusals: one by one up to a budget, then counted."""

from shared.refusals import BUDGET, CALLERS, WINDOW_SECONDS, RefusalBudget


def test_within_the_budget_each_has_its_record() -> None:
    budget = RefusalBudget()
    assert all(budget.spend("10.0.0.1", "login", 0) for _ in range(BUDGET))
    assert not budget.spend("10.0.0.1", "login", 0)
    assert budget.spend("10.0.0.2", "login", 0)


def test_a_callers_own_budget_may_be_larger() -> None:
    budget = RefusalBudget()
    assert [budget.spend("user:1", "x", 0, budget=2) for _ in range(3)] == [True, True, False]


def test_what_goes_over_it_is_counted_once_the_minute_is_over() -> None:
    budget = RefusalBudget()
    for _ in range(BUDGET + 3):
        budget.spend("a", "login", 0)
    for _ in range(2):
        budget.spend("a", "renew", 1)
    assert budget.collect(WINDOW_SECONDS - 1) == {}
    assert budget.collect(WINDOW_SECONDS) == {("a", "login"): 3, ("a", "renew"): 2}
    assert budget.collect(WINDOW_SECONDS * 2) == {}
    assert budget.spend("a", "login", WINDOW_SECONDS)  # a new minute, a new budget


def test_who_stays_within_the_budget_is_not_counted() -> None:
    budget = RefusalBudget()
    budget.spend("a", "login", 0)
    assert budget.collect(WINDOW_SECONDS) == {}


def test_many_callers_do_not_fill_the_memory() -> None:
    budget = RefusalBudget()
    for _ in range(BUDGET + 1):
        budget.spend("first", "login", 0)
    for number in range(CALLERS):
        budget.spend(f"caller {number}", "login", 0)
    assert budget.collect(1) == {("first", "login"): 1}
    assert not budget.collect(1)
