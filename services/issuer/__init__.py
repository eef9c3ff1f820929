"""The issuer: the certificate authority, and the only part that can open a CA's key."""
