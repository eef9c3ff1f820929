"""Commands of the acme service, by what they are about."""
