"""Which tests pytest-xdist gives to the same worker: those that share a running platform.

The mark `xdist_group` would say so too, but does nothing with pytest 9.2 (pytest-xdist #1386).
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it has no types

END_TO_END = "tests/e2e/"
OWN_PLATFORMS = (
    "tests/chaos/",
    "tests/e2e/test_live_certificates.py",
    "tests/e2e/test_running_it.py",
)
"""Each of these files has a platform of its own, which some stop, kill and start."""


def sharing_platforms(config: pytest.Config, log: object) -> Any:  # noqa: ANN401 - xdist has no types
    """Return what distributes tests one by one, but those of one platform together."""
    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = scope_of
    return scheduling


def scope_of(nodeid: str) -> str:
    """Return the name of what has to stay together."""
    file = nodeid.split("::", maxsplit=1)[0]
    if file.startswith(OWN_PLATFORMS):
        return file
    return END_TO_END if file.startswith(END_TO_END) else nodeid
