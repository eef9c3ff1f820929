"""Every event: its names, its place, and room for additions."""

import re
from collections.abc import Iterator

import pytest

from contracts.events import CaCreated, CertificateExpiring, Event
from contracts.subjects import EVENT_SOURCES


def found(kind: type[Event] = Event) -> Iterator[type[Event]]:
    for subclass in kind.__subclasses__():
        if subclass.__module__ == "contracts.events":
            if "VERB" in vars(subclass):
                yield subclass
            yield from found(subclass)


EVENTS = sorted(found(), key=lambda event: event.__name__)


def test_there_are_events() -> None:
    assert len(EVENTS) > 5


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_an_event_is_named_in_the_past_tense_on_its_nouns_subject(event: type[Event]) -> None:
    assert event.NOUN in EVENT_SOURCES
    is_foreseen = event is CertificateExpiring  # it tells what is going to happen
    assert is_foreseen or re.search(r"(ed|set|en)$", event.VERB)
    assert event.nats_subject() == f"certwire.events.{event.NOUN}.{event.VERB}"
    assert event.ce_type() == f"certwire.{event.NOUN}.{event.VERB}"
    assert event.ce_subject is not Event.ce_subject


def test_no_two_events_share_a_subject() -> None:
    subjects = [event.nats_subject() for event in EVENTS]
    assert len(subjects) == len(set(subjects))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_the_published_schema_leaves_room_for_additions(event: type[Event]) -> None:
    assert "additionalProperties" not in event.model_json_schema()


def test_a_reader_skips_what_is_new() -> None:
    newer = CaCreated.model_validate_json(
        '{"ca": "root", "fingerprint": "%s", "subject": "CN=r",'
        ' "not_after": "2036-01-01T00:00:00Z", "added": "later"}' % ("0" * 64)
    )
    assert newer.ce_subject() == "root"


def test_an_event_without_its_subject_is_a_mistake_of_ours() -> None:
    class Nameless(Event):
        pass

    with pytest.raises(NotImplementedError):
        Nameless().ce_subject()
