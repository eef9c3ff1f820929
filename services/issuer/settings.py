"""What the issuer reads from the environment."""

import os
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from services.issuer.domain.identities import TRUST_DOMAIN, host_name
from services.issuer.domain.profiles import AGENT, INSTANCE, TWO_YEARS, Profile
from services.issuer.keys import KeyAlgorithm
from services.issuer.token import Token
from shared.settings import SealingSettings

PLATFORM_NAME_BYTES: Final = 48
"""A common name has at most 64 (RFC 5280 appendix A, ub-common-name): room for ` Issuing CA`."""

DAY_SECONDS: Final = 86_400
TWO_YEARS_SECONDS: Final = int(TWO_YEARS.total_seconds())
SHORTEST_SECONDS: Final = 60
"""Certificates are backdated, so the agents of shorter ones would always be late."""


class KeyBackendName(StrEnum):
    """Where the key of a CA is; see `key_backends`."""

    SEALED = "sealed"
    PKCS11 = "pkcs11"


def _workers() -> int:
    return max(1, (os.cpu_count() or 1) // 2)


def _named(value: object) -> object:
    return KeyAlgorithm.parse(value) if isinstance(value, str) else value


class IssuerSettings(SealingSettings):
    """The issuer's own settings."""

    public_url: str = Field(default="http://127.0.0.1:8080", pattern=r"^https?://[^/?#\s]+/?$")
    """Where CRLs, CA certificates and OCSP are served: it stands in every certificate."""
    trust_domain: str = Field(default="certwire.internal", pattern=rf"^{TRUST_DOMAIN.pattern}$")
    """The SPIFFE trust domain of instances, agents and the administrator."""
    platform_name: str = Field(default="Certwire", min_length=1)
    """Stands in the names of the platform's CAs."""
    ca_key_algorithm: Annotated[KeyAlgorithm, NoDecode, BeforeValidator(_named)] = KeyAlgorithm.P256
    """Of the platform's CAs, when they are made."""
    gateway_names: str = "localhost,127.0.0.1,::1"
    """DNS names and IP addresses of the gateway, beside the host of `public_url`."""
    issuer_key_backend: KeyBackendName = KeyBackendName.SEALED
    """Where keys of CAs are made; those that there are stay where they are."""
    pkcs11_module: Path | None = None
    """The token's library; its PIN is the secret file `pkcs11.pin`."""
    pkcs11_token: str | None = None
    """The token's label."""
    issuer_key_pool_rsa2048: int = Field(default=16, ge=0, le=10_000)
    """How many keys of certificates wait, ready to be taken; 0 makes none ahead."""
    issuer_key_pool_rsa4096: int = Field(default=8, ge=0, le=10_000)
    """How many keys of CAs wait."""
    issuer_key_workers: int = Field(default_factory=_workers, ge=1, le=64)
    """Processes that make RSA keys while somebody waits, beside the one that fills the pool."""
    issuer_instance_lifetime_seconds: int = Field(
        default=DAY_SECONDS, ge=SHORTEST_SECONDS, le=DAY_SECONDS
    )
    """Of instances' certificates; shorter ones are for tests of what renews them."""
    issuer_agent_lifetime_seconds: int = Field(
        default=TWO_YEARS_SECONDS, ge=SHORTEST_SECONDS, le=TWO_YEARS_SECONDS
    )
    """Of agents' certificates."""

    @field_validator("platform_name")
    @classmethod
    def _fits_into_a_common_name(cls, value: str) -> str:
        if len(value.encode()) > PLATFORM_NAME_BYTES or not value.isprintable():
            raise ValueError(f"at most {PLATFORM_NAME_BYTES} bytes, all printable")
        return value

    @field_validator("gateway_names")
    @classmethod
    def _are_names(cls, value: str) -> str:
        for name in _split(value):
            host_name(name)
        return value

    @cached_property
    def instance_profile(self) -> Profile:
        """Return the profile of instances with their lifetime."""
        return replace(INSTANCE, validity=timedelta(seconds=self.issuer_instance_lifetime_seconds))

    @cached_property
    def agent_profile(self) -> Profile:
        """Return the profile of agents with their lifetime."""
        return replace(AGENT, validity=timedelta(seconds=self.issuer_agent_lifetime_seconds))

    @model_validator(mode="after")
    def _name_a_token(self) -> "IssuerSettings":
        if self.issuer_key_backend is KeyBackendName.PKCS11:
            _ = self.token
        return self

    @cached_property
    def token(self) -> Token:
        """Return the process's only way to the token. Raises ValueError where none is named."""
        if self.pkcs11_module is None or self.pkcs11_token is None:
            raise ValueError("CERTWIRE_PKCS11_MODULE and CERTWIRE_PKCS11_TOKEN name no token")
        return Token(self.pkcs11_module, self.pkcs11_token, self.secrets / "pkcs11.pin")

    @cached_property
    def key_pool(self) -> dict[KeyAlgorithm, int]:
        """Return how many keys of each kind wait."""
        return {
            KeyAlgorithm.RSA2048: self.issuer_key_pool_rsa2048,
            KeyAlgorithm.RSA4096: self.issuer_key_pool_rsa4096,
        }

    @cached_property
    def gateway_hosts(self) -> tuple[str, ...]:
        """Return the names of the gateway's certificate, each once."""
        host = urlsplit(self.public_url).hostname or ""
        return tuple(dict.fromkeys([*_split(self.gateway_names), host]))


def _split(names: str) -> list[str]:
    return [name.strip().lower() for name in names.split(",") if name.strip()]
