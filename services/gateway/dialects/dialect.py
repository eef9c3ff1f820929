"""What a dialect is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, BeforeValidator, ConfigDict
from starlette.routing import BaseRoute

from services.gateway.shapes import Shape


@dataclass(frozen=True)
class Dialect:
    """An HTTP API: the paths below `prefixes`, known and unknown, answer errors in its shape."""

    name: str
    prefixes: tuple[str, ...]
    shape: Shape
    routes: Sequence[BaseRoute]

    def has(self, path: str) -> bool:
        """Return whether the path belongs to it."""
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self.prefixes)


class Body(BaseModel):
    """What a dialect reads or writes. Its errors do not say what was in it: it may be a secret."""

    model_config = ConfigDict(hide_input_in_errors=True)


ITEMS_LIMIT: Final = 100
"""As many sites as an agent has; no list of a body needs more."""


def _few(items: object) -> object:
    if isinstance(items, list) and len(items) > ITEMS_LIMIT:
        raise ValueError(f"Must have at most {ITEMS_LIMIT} items")
    return items


FEW_ITEMS: Final = BeforeValidator(_few)
"""For lists in bodies: a megabyte of items would take seconds to be refused one by one."""


def decimal(text: str) -> str:
    """Return the digits of a number; pydantic alone would take `1_0`, ` 1` and `1.0` too."""
    if not (text.isascii() and text.isdigit() and text[0] != "0"):
        raise ValueError("an id is a number in decimal digits")
    return text
