"""Names of records, and the zones that they may belong into."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.acme.dns.names import (
    FEWEST_LABELS,
    MOST_CANDIDATES,
    record_name,
    record_value,
    relative,
    zone_candidates,
)

LETTERS = string.ascii_lowercase + string.digits + "_"
LABELS = st.text(LETTERS, min_size=1, max_size=12)
NAMES = st.lists(LABELS, min_size=2, max_size=18).map(".".join)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "test",
        "a..test",
        ".a.test",
        "a.test..",
        "-a.test",
        "a-.test",
        "a b.test",
        "a/b.test",
        "a%2eb.test",
        "*.a.test",
        "ä.test",
        "a.test\n",
        "a" * 64 + ".test",
        "a." * 125 + "test",
        "a\x00.test",
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="not a DNS name"):
        record_name(name)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("_acme-challenge.A.Test.", "_acme-challenge.a.test"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("a" * 63 + ".test", "a" * 63 + ".test"),
        ("a." * 124 + "abcde", "a." * 124 + "abcde"),
    ],
)
def test_a_name(name: str, written: str) -> None:
    assert record_name(name) == written


@pytest.mark.parametrize("value", ["", 'a"', "a b", "a\n", "ä", "a" * 256, "a=", "a\\"])
def test_what_is_no_value(value: str) -> None:
    with pytest.raises(ValueError, match="not a value in base64url"):
        record_value(value)


@given(st.binary(min_size=1, max_size=100))
def test_every_value_in_base64url_needs_no_escape(octets: bytes) -> None:
    import base64

    value = base64.urlsafe_b64encode(octets).decode().rstrip("=")
    assert record_value(value) == value
    assert re.fullmatch(r"[\w-]+", value)


def test_zones_from_the_longest_down() -> None:
    candidates = list(zone_candidates("_acme-challenge.www.example.test"))
    assert candidates == ["_acme-challenge.www.example.test", "www.example.test", "example.test"]


@given(NAMES)
def test_every_candidate_holds_the_name(name: str) -> None:
    candidates = list(zone_candidates(name))
    assert candidates
    assert len(candidates) <= MOST_CANDIDATES
    assert sorted(candidates, key=len, reverse=True) == candidates
    for zone in candidates:
        assert name == zone or name.endswith(f".{zone}")
        assert zone.count(".") >= FEWEST_LABELS - 1
    assert candidates[-1] == ".".join(name.split(".")[-FEWEST_LABELS:])


@given(NAMES)
def test_a_relative_name_and_its_zone_are_the_name(name: str) -> None:
    for zone in zone_candidates(name):
        within = relative(name, zone)
        assert (zone if within == "@" else f"{within}.{zone}") == name


@given(NAMES, st.sets(NAMES, max_size=20))
def test_the_first_candidate_that_is_hosted_is_the_longest(name: str, others: set[str]) -> None:
    labels = name.split(".")
    parents = [".".join(labels[index:]) for index in range(len(labels) - 1)]
    hosted = others | {parents[len(parents) // 2], parents[-1]}
    found = next((zone for zone in zone_candidates(name) if zone in hosted), None)
    within_reach = [zone for zone in hosted if zone in parents[-MOST_CANDIDATES:]]
    assert found == max(within_reach, key=len)
