"""Settings of the gateway."""

from pathlib import Path
from typing import Final

from pydantic import Field, model_validator

from shared.settings import Settings

BODY_LIMIT_BYTES: Final = 1024 * 1024
"""Far above the largest body that a dialect takes (64 KiB of secrets), far below `max_payload`."""

ORDER_SECONDS: Final = 90.0
"""The rulings' number."""


class GatewaySettings(Settings):
    """Where it listens, with which certificate, and what it takes."""

    https_host: str = "127.0.0.1"
    https_port: int = Field(default=8443, ge=0, le=65535)
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65535)
    """Only what is public by nature."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    """PEM files, the chain leaf first; without them the platform's own CA signs one."""
    api_url: str | None = None
    """How the TLS port is reached from outside, for `/openapi.json`."""
    proxy_agents: str = ""
    """Labels, comma-separated, of the agents that are reverse proxies: they may ask what the
    agents behind them are authorised for, whose certificates they present in `Client-Cert`."""
    body_limit_bytes: int = Field(default=BODY_LIMIT_BYTES, ge=1024)
    body_seconds: float = Field(default=10.0, gt=0)
    """How long a client may take to send a body; for a head it is always 10 s."""
    deadline_seconds: float = Field(default=10.0, gt=0)
    """How long a request waits for the services' answers."""
    order_seconds: float = Field(default=ORDER_SECONDS, gt=0)
    """How long one does that waits for a public CA."""

    @model_validator(mode="after")
    def _certificate_with_key(self) -> "GatewaySettings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("CERTWIRE_TLS_CERTIFICATE and CERTWIRE_TLS_KEY go together")
        return self

    @property
    def trusted_proxies(self) -> frozenset[str]:
        """Return the labels of the proxies."""
        return frozenset(filter(None, map(str.strip, self.proxy_agents.split(","))))
