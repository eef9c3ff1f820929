"""The instance service: running instances, their 24-hour certificates and their secrets."""
