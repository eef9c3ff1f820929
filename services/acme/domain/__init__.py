"""What public certificates are held to: pure rules, without clock, randomness or I/O."""
