"""The acme service's rules, without input or output."""
