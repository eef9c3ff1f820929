"""Settings of the registry."""

from pydantic import Field

from shared.settings import Settings


class RegistrySettings(Settings):
    """Limits; the defaults are the documented ones."""

    kek: str | None = None
    """Key-encryption keys in base64, one a line; without it, the secret file `kek`."""
    registry_logins_per_minute: int = Field(default=5, ge=1)
    """Logins that one user may try from one address."""
    registry_logins_per_minute_of_address: int = Field(default=20, ge=1, le=1000)
    """Logins that one address may try."""

    def key_encryption_keys(self) -> str:
        """Return the keys from the environment or from their file. Raises FileNotFoundError."""
        return self.kek or self.secret("kek")
