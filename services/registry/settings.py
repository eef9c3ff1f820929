"""Settings of the registry."""

from pydantic import Field

from shared.settings import SealingSettings


class RegistrySettings(SealingSettings):
    """Limits; the defaults are the documented ones."""

    registry_logins_per_minute: int = Field(default=5, ge=1)
    """Logins that one user may try from one address."""
    registry_logins_per_minute_of_address: int = Field(default=20, ge=1, le=1000)
    """Logins that one address may try."""
    registry_unknown_tokens_per_minute: int = Field(default=120, ge=1)
    """Enrolments with a token that is nobody's, from one address."""
