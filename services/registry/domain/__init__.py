"""The registry's rules, without input or output."""
