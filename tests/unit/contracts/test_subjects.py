"""Subjects: one grammar, and who vouches for an inbound user."""

import json

import pytest

from contracts.subjects import (
    AUDIT_WILDCARD,
    EVENT_SOURCES,
    EVENTS_WILDCARD,
    Service,
    audit_record,
    comes_from_a_client,
    command,
    event,
    inbound_user,
    inbound_wildcard,
    inbox,
    service_wildcard,
)


def test_subjects_fall_under_the_wildcards_of_their_streams_and_services() -> None:
    pairs = [
        (event("certificate", "issued"), EVENTS_WILDCARD),
        (audit_record(Service.ISSUER, "cert_create"), AUDIT_WILDCARD),
        (command(Service.ISSUER, "crl", "get"), service_wildcard(Service.ISSUER)),
    ]
    for subject, wildcard in pairs:
        assert subject.startswith(wildcard.removesuffix(">"))


def test_only_an_events_owner_may_publish_it() -> None:
    assert EVENT_SOURCES["certificate"] == {Service.ISSUER, Service.ACME}
    assert all(Service.GATEWAY not in sources for sources in EVENT_SOURCES.values())


def test_an_inbound_subject_names_the_user_whose_permissions_fix_it() -> None:
    subject = inbound_wildcard("orchestrator").replace(">", "instance.status")
    assert inbound_user(subject) == "orchestrator"


@pytest.mark.parametrize(
    ("info", "vouched"),
    [
        (json.dumps({"kind": "Client", "user": "U"}), True),
        (json.dumps({"kind": "JetStream"}), False),
        (json.dumps({}), False),
        (json.dumps(["Client"]), False),
        ("Client", False),
        ("", False),
        (None, False),
    ],
)
def test_only_a_clients_own_request_is_vouched_for(info: str | None, vouched: bool) -> None:  # noqa: FBT001 - a column of the table
    assert comes_from_a_client(info) is vouched


def test_no_inbox_is_the_prefix_of_anothers() -> None:
    prefixes = [f"{inbox(user)}." for user in (*Service, "cli")]
    assert all(a == b or not a.startswith(b) for a in prefixes for b in prefixes)
