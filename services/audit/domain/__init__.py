"""The audit service's rules, without input or output."""
