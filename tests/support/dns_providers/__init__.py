"""DNS providers: servers with the shapes of their documented APIs, which write into a DNS."""
