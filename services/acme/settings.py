"""Settings of the acme service."""

import base64
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from shared.settings import LOOPBACK_HOSTS, SealingSettings

LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"
LETS_ENCRYPT_STAGING: Final = "https://acme-staging-v02.api.letsencrypt.org/directory"
EAB_KEY_FILE: Final = "acme-eab.hmac"
"""The secret file with the key of the external account, where the environment does not hold it."""


def _set(value: object) -> object:
    """Return None for what stands empty in the environment."""
    return None if value == "" else value


def _https(url: str) -> str:
    """Return a URL over HTTPS, with which nothing can be meant but a host, a port and a path."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
        raise ValueError("an https:// URL")
    return url


def _https_or_loopback(url: str) -> str:
    """Return a URL over HTTPS; on this machine it may be HTTP."""
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS:
        return url
    return _https(url)


def from_base64url(text: str) -> bytes:
    """Return the bytes of base64url, padded or not. Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _hmac_key(key: SecretStr) -> SecretStr:
    """Return a key of an external account. Raises ValueError for what is none."""
    if not from_base64url(key.get_secret_value()):
        raise ValueError("a key in base64url")
    return key


DirectoryUrl = Annotated[str, AfterValidator(_https)]
ApiUrl = Annotated[str, AfterValidator(_https_or_loopback)]
HmacKey = Annotated[SecretStr, AfterValidator(_hmac_key)]
Optional = BeforeValidator(_set)


class AcmeSettings(SealingSettings):
    """Which CAs and DNS providers there are, and what is done with certificates.

    Only the two directories are ever asked for certificates, only these providers for records.
    """

    model_config = SettingsConfigDict(hide_input_in_errors=True)  # one of them is a secret

    acme_directory_url: DirectoryUrl = LETS_ENCRYPT
    acme_staging_directory_url: DirectoryUrl = LETS_ENCRYPT_STAGING
    acme_ca_bundle: Annotated[Path | None, Optional] = None
    """Roots in PEM that outbound TLS trusts; else the machine's."""
    acme_eab_kid: Annotated[str | None, Optional] = None
    acme_eab_hmac_key: Annotated[HmacKey | None, Optional] = None
    """External account binding (RFC 8555 section 7.3.4); the key in base64url, as CAs print it.

    Without the key here it is read from the secret file `acme-eab.hmac`.
    """
    acme_profile: Annotated[str | None, Optional] = None
    acme_preferred_issuer: Annotated[str | None, Optional] = None
    """Common name of an issuer; the chain that has it is chosen where the CA offers several."""
    acme_dns_resolver: Annotated[str | None, Optional] = None
    """host:port of a server that is asked instead of the authoritative ones."""
    acme_http01_port: int = Field(default=80, ge=1, le=65535)
    """Where a preflight looks for http-01 answers; CAs always use 80 (RFC 8555 section 8.3)."""
    acme_dns_cloudflare_base_url: ApiUrl = "https://api.cloudflare.com/client/v4"
    acme_dns_aws_base_url: ApiUrl = "https://route53.amazonaws.com"
    acme_dns_digitalocean_base_url: ApiUrl = "https://api.digitalocean.com"
    acme_dns_godaddy_base_url: ApiUrl = "https://api.godaddy.com"
    acme_dns_google_base_url: ApiUrl = "https://dns.googleapis.com/dns/v1"
    acme_dns_google_token_url: ApiUrl = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
    acme_propagation_seconds: int = Field(default=600, ge=1)
    """How long TXT records may take to be at every authoritative server."""
    acme_live_dir: Annotated[Path | None, Optional] = None
    """Where the certificates' files are kept, in certbot's layout; None keeps none."""
    acme_reload_command: Annotated[str | None, Optional] = None
    """What is run after files changed, such as `systemctl reload nginx`; no shell."""
    acme_auto_renew: bool = True
    """Whether this replica begins renewals by itself."""
    acme_renewals_per_hour: int = Field(default=100, ge=1)
    """At one CA, by all replicas together; Let's Encrypt takes 300 new orders in three hours."""
    acme_concurrent_orders: int = Field(default=20, ge=1, le=200)
    """That this replica works on, for each CA."""
    acme_lease_seconds: float = Field(default=30.0, ge=1.0)
    """After this an order whose replica does not say anything any more is another's."""

    @model_validator(mode="after")
    def _kid_with_key(self) -> "AcmeSettings":
        if self.acme_eab_kid is None and self.acme_eab_hmac_key is not None:
            raise ValueError("CERTWIRE_ACME_EAB_HMAC_KEY goes with CERTWIRE_ACME_EAB_KID")
        if self.acme_eab_kid is not None and self.acme_eab_hmac_key is None:
            try:
                _hmac_key(SecretStr(self.secret(EAB_KEY_FILE)))
            except OSError:
                raise ValueError(
                    "CERTWIRE_ACME_EAB_KID goes with a key: CERTWIRE_ACME_EAB_HMAC_KEY, or the"
                    f" file {self.secrets / EAB_KEY_FILE}"
                ) from None
        return self

    @property
    def external_account(self) -> tuple[str, bytes] | None:
        """Return what accounts are bound to, its id and its key, where that is set.

        The file is read each time, so that another key counts at once. Raises FileNotFoundError and
        ValueError where it was spoilt meanwhile.
        """
        if self.acme_eab_kid is None:
            return None
        key = self.acme_eab_hmac_key
        text = self.secret(EAB_KEY_FILE) if key is None else key.get_secret_value()
        return self.acme_eab_kid, from_base64url(text)

    def directory(self, *, staging: bool) -> str:
        """Return the URL of the CA's directory."""
        return self.acme_staging_directory_url if staging else self.acme_directory_url
