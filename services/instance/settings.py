"""Settings of the instance service."""

from datetime import timedelta

from pydantic import Field

from shared.settings import SealingSettings


class InstanceSettings(SealingSettings):
    """Limits; the defaults are the documented ones."""

    instance_verify_source_ip: bool = False
    """Whether secrets go only to a peer whose address is the registered VPN address."""
    instance_secrets_refreshes_per_hour: int = Field(default=60, ge=1)
    instance_failed_attempts_per_hour: int = Field(default=60, ge=1)
    """Renewals with an invalid CSR that one instance may try: protects the CA."""
    instance_bootstrap_failures_per_minute: int = Field(default=120, ge=1)
    """Bootstraps with a wrong token that one address may try."""
    instance_claim_lifetime_seconds: int = Field(default=30, ge=3)
    """A claim that is pending for longer is voided; signing gets a third of it."""

    @property
    def claim_lifetime(self) -> timedelta:
        """Return how long a claim may be pending."""
        return timedelta(seconds=self.instance_claim_lifetime_seconds)
