"""Writes the JSON schemas of events and audit records, as `make schemas`; refuses what breaks them.

They change by addition only: the streams and the audit log hold what older versions wrote, and
other people's subscribers read what newer ones write.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from contracts.audit import AuditRecord
from contracts.events import Event

ROOT: Final = Path(__file__).resolve().parent.parent
SNAPSHOTS: Final = ROOT / "tests" / "contract" / "snapshots"
Schema: TypeAlias = dict[str, Any]

PROSE: Final = {"title", "description", "default"}
LISTS: Final = {"anyOf", "prefixItems"}
"""Keywords whose schemas are compared one by one."""


def events() -> Iterator[type[Event]]:
    """Yield every event of the contracts."""

    def below(kind: type[Event]) -> Iterator[type[Event]]:
        for subclass in kind.__subclasses__():
            if subclass.__module__.startswith("contracts.") and "VERB" in vars(subclass):
                yield subclass
            yield from below(subclass)

    yield from below(Event)


def current() -> dict[str, Schema]:
    """Return the schemas as the code has them, by file name."""
    found = {f"{event.ce_type()}.json": event.model_json_schema() for event in events()}
    found["audit_record.json"] = AuditRecord.model_json_schema()
    return {name: resolved(schema) for name, schema in sorted(found.items())}


def snapshots() -> dict[str, Schema]:
    """Return the schemas as they were written last."""
    return {path.name: json.loads(path.read_text()) for path in sorted(SNAPSHOTS.glob("*.json"))}


def resolved(schema: Schema) -> Schema:
    """Return the schema with every reference replaced by what it refers to."""
    definitions = schema.get("$defs", {})

    def resolve(node: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            node = {**definitions[node["$ref"].rsplit("/", 1)[-1]], **node}
        return {name: resolve(item) for name, item in node.items() if name not in {"$ref", "$defs"}}

    result: Schema = resolve(schema)
    return result


def breaks(before: dict[str, Schema], now: dict[str, Schema]) -> list[str]:
    """Return what is more than an addition."""
    gone = [f"{name} is gone" for name in before.keys() - now.keys()]
    return gone + [
        f"{name}: {reason}"
        for name in sorted(before.keys() & now.keys())
        for reason in incompatible(before[name], now[name], "it")
    ]


def incompatible(before: Schema, now: Schema, path: str) -> Iterator[str]:
    """Yield why a reader or a message of before does not get along with now."""
    for keyword in sorted((before.keys() | now.keys()) - PROSE):
        old, new = before.get(keyword), now.get(keyword)
        if keyword == "properties":
            yield from _properties(old or {}, new or {}, path)
        elif keyword == "required":
            yield from _required(set(old or []), set(new or []), path)
        elif keyword == "enum" and old and new:
            yield from (f"{path} lost the value {value!r}" for value in old if value not in new)
        elif keyword == "items" and old and new:
            yield from incompatible(old, new, f"{path}[]")
        elif keyword in LISTS and len(old or []) == len(new or []):
            for number, pair in enumerate(zip(old or [], new or [], strict=True)):
                yield from incompatible(*pair, f"{path}({number})")
        elif old != new:
            yield f"{path} changed {keyword} from {old!r} to {new!r}"


def _properties(before: Schema, now: Schema, path: str) -> Iterator[str]:
    for name in before:
        if name not in now:
            yield f"{path}.{name} is gone"
        else:
            yield from incompatible(before[name], now[name], f"{path}.{name}")


def _required(before: set[str], now: set[str], path: str) -> Iterator[str]:
    yield from (f"{path}.{name} is required now: older ones lack it" for name in now - before)
    yield from (f"{path}.{name} is optional now: readers count on it" for name in before - now)


def main() -> int:
    """Write the snapshots, unless something other than an addition is among the changes."""
    now = current()
    if reasons := breaks(snapshots(), now):
        print("These are not additions:", *reasons, sep="\n  ")
        return 1
    for name, schema in now.items():
        (SNAPSHOTS / name).write_text(json.dumps(schema, indent=2, sort_keys=True) + "\n")
    print(f"{len(now)} schemas in {SNAPSHOTS.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
