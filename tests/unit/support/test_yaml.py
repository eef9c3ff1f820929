"""The reader of YAML reads what we write, and refuses what it is not sure of."""

from typing import Any

import pytest

from tests.support.yaml import YamlError, read_documents

READ: dict[str, Any] = {
    "a: 1\nb: text # a comment\nc:\nd: null\ne: true": {
        "a": 1, "b": "text", "c": None, "d": None, "e": True,
    },
    'a: "1"\nb: "# none"\nc: x#y\nd: a:b\ne: http://host:80/': {
        "a": "1", "b": "# none", "c": "x#y", "d": "a:b", "e": "http://host:80/",
    },
    "a:\n  b:\n    - 1\n    - c: 2\n      d: 3\n    -\n      e: 4\nf: 5": {
        "a": {"b": [1, {"c": 2, "d": 3}, {"e": 4}]}, "f": 5,
    },
    "a:\n- 1\n- 2\nb: 3": {"a": [1, 2], "b": 3},
    'a: [1, x, "y, z", {b: c, d: [e]}]\nf: {}\ng: []': {
        "a": [1, "x", "y, z", {"b": "c", "d": ["e"]}], "f": {}, "g": [],
    },
    "a: |\n  one # two\n\n    three\nb: 1": {"a": "one # two\n\n  three\n", "b": 1},
    "k: &x\n  a: 1\n  b: 2\nl:\n  <<: *x\n  b: 3\nm: *x": {
        "k": {"a": 1, "b": 2}, "l": {"a": 1, "b": 3}, "m": {"a": 1, "b": 2},
    },
    "k: &x {a: 1}\nl: &z {a: 2, b: 2}\nm:\n  <<: [*x, *z]": {
        "k": {"a": 1}, "l": {"a": 2, "b": 2}, "m": {"a": 1, "b": 2},
    },
    "- a\n- - b\n  - c": ["a", ["b", "c"]],
    "0.0.0.0": "0.0.0.0",  # noqa: S104 - a text
}  # fmt: skip
REFUSED = (
    "a: yes",
    "a: 1.5",
    "a: 0440",
    "a: 'quoted'",
    "a: !tag x",
    "a: >\n  folded",
    "a: b: c",
    "a: 1\na: 2",
    "a: {b: 1, b: 2}",
    "a: [1, 2",
    "a: [1] 2",
    "a: {b}",
    "a: 1\n  b: 2",
    "a: 1\nb",
    "yes: 1",
)


@pytest.mark.parametrize("text", READ)
def test_reads(text: str) -> None:
    assert read_documents(text) == [READ[text]]


def test_reads_several_documents() -> None:
    assert read_documents("# nothing but words\n---\na: 1\n---\n- b\n---\n") == [{"a": 1}, ["b"]]


@pytest.mark.parametrize("text", REFUSED)
def test_refuses(text: str) -> None:
    with pytest.raises(YamlError):
        read_documents(text)
