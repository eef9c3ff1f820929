"""Canonical bytes against the reference implementation, the hash chain, and room for additions."""

import hashlib
import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from contracts.audit import (
    GENESIS_HASH,
    Actor,
    AuditRecord,
    canonical_json,
    canonical_record,
    chain,
    record_hash,
)
from contracts.principal import Principal, PrincipalKind, Role

EXACT = st.integers(-(2**53) + 1, 2**53 - 1)
NAMES = st.text(st.characters(max_codepoint=127))
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | EXACT | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=20,
)

ENTRY: dict[str, Any] = {
    "id": "0199",
    "service": "issuer",
    "time": "2026-11-21T12:00:00.000000Z",
    "actor": {"kind": "admin", "id": "1", "name": "Zoë"},
    "action": "cert_create",
    "object": {"type": "certificate", "id": "ab", "name": "web"},
    "outcome": "success",
    "detail": {},
    "request_id": "r1",
}


@given(JSON)
def test_canonical_json_is_that_of_rfc_8785(value: Any) -> None:  # noqa: ANN401 - any JSON
    assert canonical_json(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        1.0,
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        "\ud800",
        {"\ud800": 1},
        {"é": 1},  # where UTF-16 order and code point order could differ
        [{"deep": [0.1]}],
    ],
)
def test_refuses_what_it_could_not_write_canonically(value: Any) -> None:  # noqa: ANN401 - any JSON
    with pytest.raises(ValueError, match=r"canonical|surrogates"):
        canonical_json(value)


def test_the_hash_covers_everything_but_itself() -> None:
    record = chain(ENTRY, 1, GENESIS_HASH)
    body = {name: value for name, value in record.items() if name != "hash"}
    assert record["hash"] == hashlib.sha256(rfc8785.dumps(body)).hexdigest()
    for name in body:
        assert record_hash({**record, name: "other"}) != record["hash"]
    assert record_hash({**record, "added": "later"}) != record["hash"]


def test_each_record_names_the_hash_before_it() -> None:
    first = chain(ENTRY, 1, GENESIS_HASH)
    second = chain(ENTRY, 2, str(first["hash"]))
    assert second["previous_hash"] == first["hash"]
    assert (first["sequence"], second["sequence"]) == (1, 2)
    assert first["hash"] != second["hash"]


def test_a_record_keeps_fields_that_it_does_not_know() -> None:
    newer = {**ENTRY, "added": {"later": 1}}
    newer["actor"] = {**ENTRY["actor"], "session": "s"}
    newer["object"] = {**ENTRY["object"], "site": "x"}
    record = AuditRecord.model_validate_json(json.dumps(chain(newer, 1, GENESIS_HASH)))
    dumped = record.model_dump(mode="json", exclude_unset=True)
    assert dumped["added"] == {"later": 1}
    assert dumped["actor"]["session"] == "s"
    assert dumped["object"]["site"] == "x"


def test_an_actor_is_the_principal_without_its_rights() -> None:
    principal = Principal(
        kind=PrincipalKind.USER,
        id="7",
        name="ann",
        organization_id=3,
        role=Role.SUPERUSER,
        capabilities=("x",),
    )
    assert Actor.of(principal) == Actor(kind="user", id="7", name="ann", organization_id=3)


def test_text_and_hash_of_a_record_come_together() -> None:
    record = chain(
        {"id": "1", "detail": {"hash": "inner", "list": [1, {"a": None}]}}, 1, GENESIS_HASH
    )
    text, own_hash = canonical_record(record)
    assert text.encode() == canonical_json(record)
    assert own_hash == record["hash"] == record_hash(record)
    with pytest.raises(ValueError, match="integer"):
        canonical_record({**record, "detail": {"list": [1.5]}})
