"""What the issuer issues: pure rules, without clock, randomness, database or broker."""
