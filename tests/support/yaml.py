"""Reads the YAML that docker-compose.yml and the Kubernetes manifests keep to.

Block and flow collections, plain and quoted scalars, literal blocks, anchors, aliases and merge
keys, several documents. Whatever else there is in YAML, and whatever its versions read differently,
is refused.
"""

import json
import re
from typing import Any

KEY = re.compile(r"""(?P<key>"[^"]*"|[^\s\[{"'#&*!|>%@`,][^#]*?):(?: +(?P<value>.*))?$""")
ANCHOR = re.compile(r"&(\w+)(?: +|$)")
COMMENT = re.compile(r"""((?:"[^"]*"|[^"#]|(?<=\S)#)*?)\s*(?:(?:^|\s)#.*)?$""")
AMBIGUOUS = re.compile(
    r"(?i)(y|n|yes|no|on|off|[-+]?(0\d+|0x.*|(\d+\.\d*|\.\d+)(e.*)?|\d+e.*)|[-+]?\.(inf|nan))"
)
FORBIDDEN_BEGINNINGS = tuple("!%@`>|?'&*")


class YamlError(Exception):
    """This is not the YAML that we write."""


def read_documents(text: str) -> list[Any]:
    """Return every document. Raises `YamlError`."""
    documents = re.split(r"(?m)^---\n", text)
    return [_Reader(document).document() for document in documents if _has_content(document)]


def _has_content(document: str) -> bool:
    return any(_without_comment(line) for line in document.splitlines())


def _without_comment(line: str) -> str:
    match = COMMENT.match(line)
    if match is None:
        raise YamlError(line)
    return match[1].rstrip()


class _Reader:
    """One document, line by line."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._at = 0
        self._anchors: dict[str, Any] = {}

    def document(self) -> Any:  # noqa: ANN401 - whatever is in it
        value = self._block(0)
        if self._peek() is not None:
            raise YamlError(f"what is this: {self._lines[self._at]}")
        return value

    def _peek(self) -> tuple[int, str] | None:
        """Return the next line that says something: its indentation and its text."""
        while self._at < len(self._lines):
            line = _without_comment(self._lines[self._at])
            if line.strip():
                return len(line) - len(line.lstrip(" ")), line.lstrip(" ")
            self._at += 1
        return None

    def _block(self, indent: int) -> Any:  # noqa: ANN401 - whatever is in it
        """Return the collection or scalar whose lines are indented by at least `indent`."""
        line = self._peek()
        if line is None or line[0] < indent:
            return None
        if line[1] == "-" or line[1].startswith("- "):
            return self._sequence(line[0])
        if KEY.match(line[1]):
            return self._mapping(line[0])
        self._at += 1
        return self._flow(line[1])

    def _sequence(self, indent: int) -> list[Any]:
        items = []
        while (line := self._peek()) and line[0] == indent and (line[1] + " ").startswith("- "):
            # What follows the dash is a block of its own, indented by the dash.
            rest = self._lines[self._at]
            self._lines[self._at] = rest[:indent] + " " + rest[indent + 1 :]
            items.append(self._block(indent + 1))
        return items

    def _mapping(self, indent: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while (line := self._peek()) and line[0] == indent:
            match = KEY.match(line[1])
            if match is None:
                raise YamlError(f"no key: {line[1]}")
            self._at += 1
            key, value = self._flow(match["key"]), self._value(match["value"] or "", indent)
            if key in mapping or not isinstance(key, str):
                raise YamlError(f"a key twice, or no text: {key}")
            if key == "<<":
                for each in reversed(value if isinstance(value, list) else [value]):
                    merged |= each
            else:
                mapping[key] = value
        return merged | mapping

    def _value(self, text: str, indent: int) -> Any:  # noqa: ANN401 - whatever is in it
        """Return what stands behind a key: on its line, or in the lines below."""
        anchor = ANCHOR.match(text)
        text = text[anchor.end() :] if anchor else text
        if text == "|":
            value: Any = self._literal(indent)
        elif text:
            value = self._flow(text)
        else:
            below = self._peek()
            is_list = below is not None and below[1].startswith("- ")
            value = self._block(indent if is_list else indent + 1)
        if anchor:
            self._anchors[anchor[1]] = value
        return value

    def _literal(self, indent: int) -> str:
        lines: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.strip() and len(line) - len(line.lstrip(" ")) <= indent:
                break
            lines.append(line)
            self._at += 1
        inner = min(len(line) - len(line.lstrip(" ")) for line in lines if line.strip())
        return "\n".join(line[inner:] for line in lines).rstrip("\n") + "\n"

    def _flow(self, text: str) -> Any:  # noqa: ANN401 - whatever is in it
        value, rest = self._flow_value(text, "")
        if rest:
            raise YamlError(f"what is this: {rest}")
        return value

    def _flow_value(self, text: str, ends: str) -> tuple[Any, str]:
        """Return the value that `text` begins with, and the rest from one of `ends` on."""
        if text.startswith("["):
            return self._flow_sequence(text[1:].lstrip())
        if text.startswith("{"):
            return self._flow_mapping(text[1:].lstrip())
        if text.startswith('"'):
            value, end = json.JSONDecoder().raw_decode(text)
            return value, text[end:].lstrip()
        end = next((at for at, character in enumerate(text) if character in ends), len(text))
        return self._plain(text[:end].strip()), text[end:]

    def _flow_sequence(self, text: str) -> tuple[list[Any], str]:
        items = []
        while not text.startswith("]"):
            item, text = self._flow_value(text, ",]")
            items.append(item)
            text = _after_comma(text, "]")
        return items, text[1:].lstrip()

    def _flow_mapping(self, text: str) -> tuple[dict[str, Any], str]:
        mapping: dict[str, Any] = {}
        while not text.startswith("}"):
            key, found, text = text.partition(": ")
            if not found or key in mapping:
                raise YamlError(f"no key, or twice: {key}")
            mapping[self._flow(key)], text = self._flow_value(text.lstrip(), ",}")
            text = _after_comma(text, "}")
        return mapping, text[1:].lstrip()

    def _plain(self, text: str) -> Any:  # noqa: ANN401 - null, a truth value, a number, a text
        if text.startswith("*"):
            return self._anchors[text[1:]]
        if text in {"null", "true", "false"} or re.fullmatch(r"-?[1-9]\d*|0", text):
            return json.loads(text)
        if AMBIGUOUS.fullmatch(text) or text.startswith(FORBIDDEN_BEGINNINGS) or ": " in text:
            raise YamlError(f"write it with quotes: {text}")
        return text


def _after_comma(text: str, end: str) -> str:
    if text.startswith(","):
        return text[1:].lstrip()
    if not text.startswith(end):
        raise YamlError(f"no end: {text}")
    return text
