"""Settings of the audit service."""

from pydantic import Field

from shared.settings import Settings


class AuditSettings(Settings):
    """When it acts by itself."""

    audit_reread_seconds: float = Field(default=10.0, gt=0)
    """How long a record may be missing before the whole stream is read again in search of it."""
