"""UUIDs of version 7 (RFC 9562 section 5.7)."""

import time

import pytest

from shared.identifiers import uuid7


def test_version_and_variant_are_those_of_the_rfc() -> None:
    for _ in range(200):
        identifier = uuid7()
        assert identifier.version == 7
        assert identifier.variant == "specified in RFC 4122"


def test_the_first_48_bits_are_the_unix_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7().int >> 80
    assert before <= made <= time.time_ns() // 1_000_000


def test_it_reproduces_the_example_of_the_rfc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 0x017F22E279B0 * 1_000_000)
    random = 0x0CC3 << 64 | 0x18C4DC0C0C07398F  # the bits of version and variant are replaced
    monkeypatch.setattr("os.urandom", random.to_bytes)
    assert str(uuid7()) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_later_ones_sort_later_and_none_is_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for millisecond in range(100):
        now = millisecond * 1_000_000
        monkeypatch.setattr("time.time_ns", lambda now=now: now)
        made.append(uuid7())
    assert made == sorted(made)
    assert len({uuid7() for _ in range(5000)}) == 5000
