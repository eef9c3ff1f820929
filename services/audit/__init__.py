"""The audit service: keeps what the audit stream carries, once each, in order, verified."""
