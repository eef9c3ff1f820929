"""Settings that every part has: read from the environment, prefix `CERTWIRE_`."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from shared.secrets import Sealer

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """Where things are. Each service adds its own in its `settings.py`."""

    model_config = SettingsConfigDict(env_prefix="CERTWIRE_", extra="ignore", frozen=True)

    home: Path = Path(".certwire")
    secrets_directory: Path | None = Field(
        default=None, validation_alias=AliasChoices("CERTWIRE_SECRETS_DIR")
    )
    database_url: str = Field(
        default="postgresql://127.0.0.1:5432/certwire",
        validation_alias=AliasChoices("CERTWIRE_DATABASE_URL", "DATABASE_URL"),
    )
    """Host, port and database; each service logs in as its own role."""
    nats_url: str = Field(
        default="nats://127.0.0.1:4222",
        validation_alias=AliasChoices("CERTWIRE_NATS_URL", "NATS_URL"),
    )
    nats_ca_file: Path | None = None
    ops_host: str = "127.0.0.1"
    ops_port: int = Field(default=0, ge=0, le=65535)
    """Metrics and readiness details; 0 takes a free port and says which."""
    log_level: str = "INFO"
    otlp_endpoint: str | None = None
    """Where traces go, such as `http://127.0.0.1:4318/v1/traces`; none are made without it."""
    trace_ratio: float = Field(default=1.0, ge=0.0, le=1.0)
    database_connections: int = Field(default=10, ge=2, le=200)
    outbox_limit: int = Field(default=100_000, ge=1)
    """Changes are refused (503) while more rows than this wait to be published."""

    @property
    def secrets(self) -> Path:
        """Return the directory of the secret files."""
        return self.secrets_directory or self.home / "secrets"

    def secret(self, name: str) -> str:
        """Return the secret in the file `name`. Raises FileNotFoundError."""
        return (self.secrets / name).read_text().strip()


class SealingSettings(Settings):
    """Settings of a service that keeps secrets sealed in its database."""

    kek: SecretStr | None = None
    """Key-encryption keys in base64, one a line, the current one first; else the file `kek`."""

    def key_encryption_keys(self) -> str:
        """Return the keys from the environment or from their file. Raises FileNotFoundError."""
        return self.secret("kek") if self.kek is None else self.kek.get_secret_value()

    @cached_property
    def sealer(self) -> "Sealer":
        """Return the process's only sealer, which follows the keys. Raises FileNotFoundError."""
        from shared.secrets import Sealer

        return Sealer.reading(self.key_encryption_keys)
