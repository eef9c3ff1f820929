"""The gateway: HTTP on one side, messages on the other. No database, no business rule."""
