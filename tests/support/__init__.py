"""Real servers for the tests, and the few lines that every service's tests need."""
