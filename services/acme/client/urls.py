"""Addresses: the only ones that are ever asked share the origin of a configured directory."""

import re
from dataclasses import dataclass
from typing import Final

URL_LIMIT: Final = 2048
"""Of characters; URLs of CAs have around a hundred."""
HTTPS_PORT: Final = 443
HIGHEST_PORT: Final = 65_535

_URL: Final = re.compile(
    r"https://(?P<host>[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"/[a-z0-9._~:/?@!$&'()*+,;=%\[\]-]*",
    re.IGNORECASE | re.ASCII,
)
"""An absolute URI of RFC 3986 over HTTPS with a path, without credentials and fragment."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Host and port of an HTTPS server (RFC 6454 section 4)."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Return where an HTTPS URL leads. Raises ValueError where it is none."""
        found = _URL.fullmatch(url) if len(url) <= URL_LIMIT else None
        port = int(found["port"] or HTTPS_PORT) if found else 0
        if found is None or not 0 < port <= HIGHEST_PORT:
            raise ValueError("not a URL over HTTPS")
        return cls(found["host"].lower(), port)

    def checked(self, url: object) -> str:
        """Return a URL that leads here. Raises ValueError where it leads elsewhere or nowhere."""
        if not isinstance(url, str) or Origin.of(url) != self:
            raise ValueError("not a URL of the directory's origin")
        return url
