"""What every test may ask for."""

import os
from typing import Any

import pytest
from hypothesis import settings

from tests.support.fixtures import bus_place, database_url, nats_server, place, postgres
from tests.support.platform import KEY_POOL
from tests.support.scheduling import sharing_platforms

__all__ = ["bus_place", "database_url", "nats_server", "place", "postgres"]

settings.register_profile("certwire", deadline=None)  # a busy machine is not a defect
settings.load_profile("certwire")

for name in KEY_POOL:
    os.environ.setdefault(name, "0")  # tests in this process make the few RSA keys that they need


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Any:  # noqa: ANN401 - xdist has no types
    """Say which tests go to the same worker."""
    return sharing_platforms(config, log)
