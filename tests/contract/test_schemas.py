"""Events and audit records change by addition only: their schemas against the snapshots."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tools.schemas import Schema, breaks, current, incompatible, snapshots

BEFORE: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^a"},
        "kind": {"enum": ["x", "y"], "type": "string"},
        "until": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "actor": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
        "sites": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "kind", "actor", "sites"],
}


def changed(change: Callable[[Any], object]) -> list[str]:
    now = copy.deepcopy(BEFORE)
    change(now["properties"])
    return list(incompatible(BEFORE, now, "it"))


def test_nothing_but_additions_since_the_snapshots() -> None:
    assert breaks(snapshots(), current()) == []


def test_the_snapshots_are_up_to_date() -> None:
    assert snapshots() == current(), "`make schemas` writes the additions down"


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(added={"type": "string", "default": ""}),
        lambda fields: fields["actor"]["properties"].update(session={"type": "string"}),
        lambda fields: fields["kind"]["enum"].append("z"),
        lambda fields: fields["name"].update(title="Name", description="of it"),
    ],
)
def test_an_addition_passes(change: Callable[[Any], object]) -> None:
    assert changed(change) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("name"),
        lambda fields: fields.update(title=fields.pop("name")),
        lambda fields: fields["name"].update(type="integer"),
        lambda fields: fields["name"].update(pattern="^b"),
        lambda fields: fields["name"].update(maxLength=3),
        lambda fields: fields["kind"]["enum"].remove("x"),
        lambda fields: fields["until"]["anyOf"].append({"type": "integer"}),
        lambda fields: fields["until"]["anyOf"][0].update(type="integer"),
        lambda fields: fields["actor"]["properties"].pop("id"),
        lambda fields: fields["actor"]["required"].clear(),
        lambda fields: fields["actor"].update(additionalProperties=False),
        lambda fields: fields["sites"]["items"].update(type="integer"),
    ],
)
def test_anything_else_fails(change: Callable[[Any], object]) -> None:
    assert changed(change) != []


def test_a_field_may_not_become_required_nor_optional() -> None:
    for required in (["name", "kind", "actor"], [*BEFORE["required"], "until"]):
        assert list(incompatible(BEFORE, {**BEFORE, "required": required}, "it")) != []


def test_an_event_may_not_disappear() -> None:
    assert breaks({"certwire.x.gone.json": BEFORE}, {}) == ["certwire.x.gone.json is gone"]
