"""DNS providers, and the credentials that each of them takes: exactly the specification's."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

VISIBLE: Final = r"^[\x21-\x7e]+$"
"""What can stand in a header: visible ASCII."""

Secret = Annotated[str, Field(min_length=1, max_length=512, pattern=VISIBLE, repr=False)]


class DnsProviderName(StrEnum):
    CLOUDFLARE = "cloudflare"
    AWS = "aws"
    DIGITALOCEAN = "digitalocean"
    GODADDY = "godaddy"
    GOOGLE = "google"


class ProviderCredentials(BaseModel):
    """Credentials; errors do not say what was in them."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
    )


class CloudflareCredentials(ProviderCredentials):
    api_token: Secret


class AwsCredentials(ProviderCredentials):
    access_key_id: Secret
    secret_access_key: Secret
    region: str = Field(pattern=r"^[a-z0-9-]{1,64}$")


class DigitaloceanCredentials(ProviderCredentials):
    api_token: Secret


class GodaddyCredentials(ProviderCredentials):
    api_key: Secret
    api_secret: Secret


class GoogleServiceAccount(BaseModel):
    """What is read of Google's key file; its `token_uri` is not."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    client_email: str = Field(pattern=r"^[\x21-\x7e]+@[\x21-\x7e]+$", max_length=320)
    private_key: str = Field(max_length=4096, repr=False)
    """In PEM: there is room for an RSA key of 4096 bits, and Google makes keys of 2048."""
    private_key_id: str | None = Field(default=None, max_length=128)


class GoogleCredentials(ProviderCredentials):
    project_id: str = Field(pattern=r"^[a-z][a-z0-9:.-]{1,98}[a-z0-9]$")
    credentials: GoogleServiceAccount = Field(repr=False)


DnsCredentials = (
    CloudflareCredentials
    | AwsCredentials
    | DigitaloceanCredentials
    | GodaddyCredentials
    | GoogleCredentials
)
CREDENTIALS: Final[Mapping[DnsProviderName, type[DnsCredentials]]] = {
    DnsProviderName.CLOUDFLARE: CloudflareCredentials,
    DnsProviderName.AWS: AwsCredentials,
    DnsProviderName.DIGITALOCEAN: DigitaloceanCredentials,
    DnsProviderName.GODADDY: GodaddyCredentials,
    DnsProviderName.GOOGLE: GoogleCredentials,
}
