"""What every test may ask for."""

from tests.support.fixtures import bus_place, database_url, nats_server, place, postgres

__all__ = ["bus_place", "database_url", "nats_server", "place", "postgres"]
