"""The issuer's queries, one function each. None of them commits."""
