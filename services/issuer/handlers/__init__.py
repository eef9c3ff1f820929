"""What the issuer answers: from a command to what is signed, revoked or told."""
