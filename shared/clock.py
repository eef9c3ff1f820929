"""The time, in the forms that the platform uses."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time with its zone."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Return the moment in UTC with microseconds, as audit records and events print it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
