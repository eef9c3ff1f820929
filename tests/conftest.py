"""What every test may ask for."""

from hypothesis import settings

from tests.support.fixtures import bus_place, database_url, nats_server, place, postgres

__all__ = ["bus_place", "database_url", "nats_server", "place", "postgres"]

settings.register_profile("certwire", deadline=None)  # a busy machine is not a defect
settings.load_profile("certwire")
