"""The HTTP APIs, each in a casing, with statuses and an error shape of its own."""
