"""Names functions and classes that nothing uses (vulture). Exit code 1 if there are any.

Variables and attributes are left out: the fields of messages are read by others. Imports and
arguments are ruff's.
"""

import sys
from pathlib import Path
from typing import Final

from vulture import Vulture  # type: ignore[import-untyped]  # it has no annotations

ROOT: Final = Path(__file__).resolve().parent.parent
PATHS: Final = ("contracts", "shared", "services", "tools", "tests")
KINDS: Final = {"class", "function", "method", "property", "unreachable_code"}
CALLED_BY_OTHERS: Final = (  # by pytest, uvicorn, logging, asyncio, http.server
    "test_*",
    "pytest_*",
    "capture_signals",
    "connection_made",
    "send_400_response",
    "do_POST",
    "log_message",
    "handle_error",
    "*Settings",  # `certwire run` finds them by the service's name
    "format",
)
REGISTERED: Final = (
    "@pytest.*",
    "@*.get",
    "@*.post",
    "@*.put",
    "@*.patch",
    "@*.delete",
    "@*.api_route",
    "@*validator",
)


def main() -> int:
    """Look through the repository that this file lies in."""
    vulture = Vulture(ignore_names=list(CALLED_BY_OTHERS), ignore_decorators=list(REGISTERED))
    vulture.scavenge([str(ROOT / path) for path in PATHS])
    unused = [item for item in vulture.get_unused_code() if item.typ in KINDS]
    for item in unused:
        print(
            f"{item.filename.relative_to(ROOT)}:{item.first_lineno}: unused {item.typ} {item.name}"
        )
    return 1 if unused else 0


if __name__ == "__main__":
    sys.exit(main())
