"""Sets that are compared and exchanged."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.acme.dns import DnsProviderError, record_sets
from services.acme.dns.record_sets import ChangedError, RecordSets, TxtSet, adding, apply, removing

WHERE = ("zone", "name")
VALUES = st.sampled_from("abcd")
SETS = st.one_of(
    st.none(),
    st.builds(TxtSet, st.just(300), st.lists(VALUES, min_size=1, unique=True).map(tuple)),
)


class Memory(RecordSets):
    """A provider with one set, which others may change between a look and a change."""

    def __init__(self, found: TxtSet | None = None) -> None:
        self.found = found
        self.refused = 0

    async def public_zones(self, name: str) -> list[str]:
        return [name]

    async def read(self, zone: str, name: str) -> TxtSet | None:
        assert (zone, name) == WHERE
        found = self.found
        await asyncio.sleep(0)
        return found

    async def replace(self, zone: str, name: str, old: TxtSet | None, new: TxtSet | None) -> None:
        assert (zone, name) == WHERE
        await asyncio.sleep(0)
        if old != self.found:
            self.refused += 1
            raise ChangedError
        self.found = new


@given(SETS, VALUES)
def test_adding_keeps_the_others(found: TxtSet | None, value: str) -> None:
    added = adding(value, 1)(found)
    assert added is not None
    assert set(added.values) == {value, *(found.values if found else ())}
    assert len(added.values) == len(set(added.values))
    assert adding(value, 1)(added) == added


@given(SETS, VALUES)
def test_removing_keeps_the_others(found: TxtSet | None, value: str) -> None:
    left = removing(value)(found)
    assert set(left.values if left else ()) == set(found.values if found else ()) - {value}
    assert left is None or left.values
    assert removing(value)(left) == left


@given(SETS, VALUES)
def test_what_was_added_and_removed_was_never_there(found: TxtSet | None, value: str) -> None:
    after = removing(value)(adding(value, 1)(found))
    assert set(after.values if after else ()) == set(found.values if found else ()) - {value}


async def test_nothing_is_written_where_nothing_changes() -> None:
    sets = Memory(TxtSet(300, ("a",)))
    before = sets.found
    await apply(sets, *WHERE, adding("a", 1))
    assert sets.found is before


async def test_those_who_meet_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_sets, "PAUSE_SECONDS", 0.001)
    sets = Memory(TxtSet(300, ("other",)))
    values = [str(number) for number in range(8)]
    await asyncio.gather(*(apply(sets, *WHERE, adding(value, 1)) for value in values))
    assert sets.found is not None
    assert sorted(sets.found.values) == sorted([*values, "other"])
    assert sets.refused
    await asyncio.gather(*(apply(sets, *WHERE, removing(value)) for value in values))
    assert sets.found == TxtSet(1, ("other",))


class Restless(Memory):
    """A provider at which somebody else is always quicker; or one that says so."""

    def __init__(self, *, changes: bool) -> None:
        super().__init__()
        self._changes = changes

    async def replace(self, *_: object) -> None:
        self.refused += 1
        if self._changes:
            self.found = TxtSet(300, (f"other-{self.refused}",))
        raise ChangedError("said the provider")


@pytest.mark.parametrize(
    ("changes", "attempts", "words"),
    [
        (True, record_sets.ATTEMPTS, "others keep changing the records of name"),
        (False, record_sets.STUBBORN, "the records of name cannot be set: said the provider"),
    ],
)
async def test_there_is_an_end(
    monkeypatch: pytest.MonkeyPatch, *, changes: bool, attempts: int, words: str
) -> None:
    monkeypatch.setattr(record_sets, "PAUSE_SECONDS", 0)
    sets = Restless(changes=changes)
    with pytest.raises(DnsProviderError, match=words) as caught:
        await apply(sets, *WHERE, adding("a", 1))
    assert sets.refused == attempts
    assert caught.value.transient is changes
