"""Members of JSON objects: as they should be, or the CA's misbehaviour."""

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.acme.client.documents import Document, boolean, list_of, members, moment, text
from services.acme.client.messages import (
    read_authorization,
    read_challenge,
    read_directory,
    read_order,
    read_renewal_info,
)
from services.acme.client.problems import CaMisbehaves
from services.acme.client.urls import Origin

ORIGIN = Origin("ca.example", 443)
NAMES = st.sampled_from(
    [
        "status",
        "type",
        "value",
        "url",
        "token",
        "identifier",
        "identifiers",
        "challenges",
        "error",
        "authorizations",
        "finalize",
        "certificate",
        "expires",
        "meta",
        "profiles",
        "newNonce",
        "newAccount",
        "newOrder",
        "suggestedWindow",
        "start",
        "end",
        "wildcard",
        "website",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.sampled_from(["dns", "valid", "https://ca.example/x", "2030-01-01T00:00:00Z"])
)
VALUES = st.recursive(
    SCALARS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(NAMES, children),
    max_leaves=10,
)


def document(**values: object) -> Document:
    return Document("order", values, ORIGIN)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02t03:04:05.5z", datetime(2030, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("2030-01-02T03:04:05.123456789Z", datetime(2030, 1, 2, 3, 4, 5, 123_456, tzinfo=UTC)),
        ("2030-01-02T00:04:05+01:00", datetime(2030, 1, 1, 23, 4, 5, tzinfo=UTC)),
    ],
)
def test_moments(said: str, meant: datetime) -> None:
    assert moment(said) == meant


@pytest.mark.parametrize(
    "said",
    [
        "",
        "2030-01-02",
        "2030-01-02T03:04:05",
        "2030-02-30T03:04:05Z",
        "20300102T030405Z",
        "2030-01-02T03:04:05.1234567890Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "٢٠٣٠-01-02T03:04:05Z",
        1_893_456_000,
        None,
    ],
)
def test_what_is_no_moment(said: object) -> None:
    with pytest.raises(ValueError, match="not a time"):
        moment(said)


def test_members_that_have_to_be_there() -> None:
    assert document(name="x").needed("name", text) == "x"
    assert document().optional("name", text) is None
    assert document(name=None).optional("name", text) is None
    assert document(name=False).needed("name", boolean) is False
    assert document(name=[]).needed("name", list_of(text, 1)) == ()
    for empty in (document(), document(name=None)):
        with pytest.raises(CaMisbehaves, match="the order has no 'name'"):
            empty.needed("name", text)


def test_a_reason_names_the_member() -> None:
    with pytest.raises(CaMisbehaves, match="'name' of the order: not a text, or too long"):
        document(name=1).needed("name", text)
    with pytest.raises(CaMisbehaves, match="'name' of the order: not an object"):
        document(name=1).optional("name", members)
    with pytest.raises(CaMisbehaves, match="'name' of the order: not a list, or too long"):
        document(name=[1, 2]).optional("name", list_of(text, 1))


def test_addresses() -> None:
    url = "https://ca.example/x"
    assert document(name=url).url("name") == document(name=url).optional_url("name") == url
    assert document().optional_url("name") is None
    with pytest.raises(CaMisbehaves, match="origin"):
        document(name="https://other.example/x").optional_url("name")


def test_bodies() -> None:
    assert Document.parse("order", b'{"a": 1}', ORIGIN).members == {"a": 1}
    for body in (b"", b"[]", b"1", b'{"a": 1, "a": 2}'):
        with pytest.raises(CaMisbehaves, match="the order is not a JSON object"):
            Document.parse("order", body, ORIGIN)


@settings(max_examples=50)
@given(st.dictionaries(NAMES, VALUES, max_size=10))
def test_no_object_is_more_than_misbehaviour(values: dict[str, object]) -> None:
    said = Document.parse("order", json.dumps(values).encode(), ORIGIN)
    for read in (
        read_directory,
        read_challenge,
        lambda each: read_order(each, "", None),
        lambda each: read_authorization(each, None),
        lambda each: read_renewal_info(each, 60),
    ):
        with suppress(CaMisbehaves):
            read(said)
