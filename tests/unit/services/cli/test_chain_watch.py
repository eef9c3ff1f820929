"""What the tail says of the records it prints."""

import pytest

from contracts.subjects import Service
from services.audit.domain.verification import Genuine, examine
from services.cli import chain_watch
from services.cli.chain_watch import ChainWatch
from tests.support.audit import Chain


def records(chain: Chain, count: int) -> list[Genuine]:
    examined = [examine(each) for each in chain.take(count)]
    return [each for each in examined if isinstance(each, Genuine)]


def observed(watch: ChainWatch, *genuine: Genuine) -> list[tuple[bool, list[str]]]:
    return [watch.observe(each) for each in genuine]


GOOD: tuple[bool, list[str]] = (True, [])
AGAIN: tuple[bool, list[str]] = (False, [])


def test_unbroken_chains_are_quiet() -> None:
    issuer, registry = records(Chain(), 3), records(Chain(Service.REGISTRY), 3)
    mixed = [each for pair in zip(issuer, registry, strict=True) for each in pair]
    assert observed(ChainWatch(), *mixed) == [GOOD] * 6


def test_it_may_begin_anywhere() -> None:
    assert observed(ChainWatch(), *records(Chain(), 5)[2:]) == [GOOD] * 3


def test_what_comes_again_is_not_new() -> None:
    one, two, three = records(Chain(), 3)
    assert observed(ChainWatch(), one, two, one, two, three) == [GOOD, GOOD, AGAIN, AGAIN, GOOD]


def test_what_is_before_the_beginning_is_not_asked_for() -> None:
    one, two, three = records(Chain(), 3)
    assert observed(ChainWatch(), two, one, three) == [GOOD, AGAIN, GOOD]


def test_a_missing_record_is_named() -> None:
    one, two, three, _, _, six = records(Chain(), 6)
    watch = ChainWatch()
    assert observed(watch, one) == [GOOD]
    assert watch.observe(three) == (True, ["issuer#2 missing before issuer#3"])
    assert watch.observe(six) == (True, ["issuer#4 to issuer#5 missing before issuer#6"])
    assert watch.observe(two) == GOOD


def test_a_record_that_does_not_link_is_named() -> None:
    one, _ = records(Chain(), 2)
    _, foreign = records(Chain(), 2)
    watch = ChainWatch()
    watch.observe(one)
    assert watch.observe(foreign) == (True, ["issuer#2 does not follow the record before it"])


def test_two_records_at_one_place_are_named() -> None:
    (one,), (other,) = records(Chain(), 1), records(Chain(), 1)
    watch = ChainWatch()
    watch.observe(one)
    assert watch.observe(other) == (True, ["issuer#1 is there twice, and differs"])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_watch, "REMEMBERED", 2)
    watch = ChainWatch()
    assert observed(watch, *records(Chain(), 5)) == [GOOD] * 5
    assert len(watch._hashes) == 2
