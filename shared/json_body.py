"""JSON as RFC 8259 has it and I-JSON (RFC 7493) wants it: one meaning for every reader."""

import json
import math
from typing import Any, Final, NoReturn

DEPTH_LIMIT: Final = 64
"""Of arrays and objects in one another; pydantic's serializer ends at 255."""


def parse(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return the value. Raises `json.JSONDecodeError`.

    Refused beyond what the standard library refuses: invalid UTF-8, names that occur twice, NaN
    and infinities, numbers too large to be kept, lone surrogates, and nesting without end.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError("Invalid UTF-8", "", error.start) from None
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError("Nested too deeply", "", 0) from None
    except ValueError as error:
        raise json.JSONDecodeError(str(error), "", 0) from None
    if "\\u" in text and not _is_unicode(value):
        raise json.JSONDecodeError("Lone surrogate", "", 0)
    if text.count("{") + text.count("[") > DEPTH_LIMIT and _depth(value) > DEPTH_LIMIT:
        raise json.JSONDecodeError("Nested too deeply", "", 0)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("Duplicate name in an object")
    return members


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("Number out of range")
    return number


def _constant(_name: str) -> NoReturn:
    raise ValueError("Not a JSON number")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_float, parse_constant=_constant
)


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(value: object) -> int:
    """Return how many arrays and objects stand in one another at the deepest place."""
    depth, level = 0, [value]
    while level := [
        item
        for container in level
        if isinstance(container, dict | list)
        for item in (container.values() if isinstance(container, dict) else container)
    ]:
        depth += 1
    return depth
