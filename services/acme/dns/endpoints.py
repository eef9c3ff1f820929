"""Where the providers' APIs are."""

from dataclasses import dataclass, fields
from typing import Final
from urllib.parse import urlsplit

from shared.settings import LOOPBACK_HOSTS

MOST_CHARACTERS: Final = 1024


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of the providers, without a slash at the end. Raises ValueError.

    Credentials go to them, so it is HTTPS everywhere but on this machine.
    """

    cloudflare_base_url: str = "https://api.cloudflare.com/client/v4"
    aws_base_url: str = "https://route53.amazonaws.com"
    digitalocean_base_url: str = "https://api.digitalocean.com"
    godaddy_base_url: str = "https://api.godaddy.com"
    google_base_url: str = "https://dns.googleapis.com/dns/v1"
    google_token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address

    def __post_init__(self) -> None:
        """Check every address."""
        for field in fields(self):
            url = getattr(self, field.name)
            try:
                object.__setattr__(self, field.name, _address(url))
            except ValueError as error:
                raise ValueError(f"{field.name}: {error}") from None


def _address(url: str) -> str:
    if not (url.isascii() and url.isprintable()) or " " in url or len(url) > MOST_CHARACTERS:
        raise ValueError("ASCII without spaces")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an https URL")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError("a URL without user, query and fragment")
    if parts.port == 0:  # .port raises ValueError where it is no port at all
        raise ValueError("a URL with a port that there is")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise ValueError("http goes to this machine only")
    return url.rstrip("/")
