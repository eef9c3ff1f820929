from tests.bench.ledger import compare


def test_says_nothing_where_both_agree() -> None:
    assert compare("event", ["a", "b"], ["b", "a"]) == ""


def test_counts_what_is_missing_and_what_is_too_many() -> None:
    line = compare("event", ["a", "b", "c"], ["a", "a", "b"])
    assert line == "certwire: event: 3 for 3 replies (1 missing, 1 too many, 0 replies alike)"


def test_two_clients_with_the_same_certificate_are_a_difference() -> None:
    line = compare("event", ["a", "a"], ["a", "a"])
    assert line == "certwire: event: 2 for 2 replies (0 missing, 0 too many, 1 replies alike)"
