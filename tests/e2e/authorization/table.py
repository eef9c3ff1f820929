"""What a table of the authorisation matrix is made of: callers, rows, and a cell for each pair.

A cell is what the caller is answered: the status with the text of the refusal, or `TLS`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TLS = "tls"
"""The certificate does not come through the handshake."""
PLAIN = "http:"
"""Stands before the path of a route of the plain port."""

GROUPS: dict[str, tuple[str, ...]] = {
    "nobody": (  # no certificate, no token
        "nobody",
        "forged headers of the admin",
        "forged headers of an agent",
    ),
    "strangers": ("self-signed", "same-named CA", "the gateway's own", "expired"),
    "fallen": (  # were somebody; `since`: over a connection that was open, and used, before
        "unissued",  # signed by the CA's own key, but not by the issuer
        "expired since agent",
        "expired since instance",
        "expired since admin",
        "revoked agent",
        "revoked instance",
        "revoked admin",
        "revoked since agent",
        "revoked since instance",
        "revoked since admin",
        "superseded agent",
        "superseded instance",
        "superseded admin",
    ),
    "agents": (  # able: has the capability that is asked for
        "agent",
        "able agent",
        "agent with forged headers of the admin",
        "agent with forged headers of an able one",
        "proxy for an able agent",
    ),
    "instances": ("instance", "other instance", "stopped instance"),
    "admin": ("admin",),
    "superuser": ("superuser",),
    "users": ("user", "organisation's administrator"),
    "keys": (  # of the API, each called for what it may: nothing; projects; private keys
        "key for nothing",
        "key for private keys alone",
        "key that reads",
        "key that reads private keys",
        "key that writes",
        "key that may everything",
        "key that may everything, as a Bearer token",
        "deleted key",
    ),
    "made-up token": ("made-up token",),
    "made-up key": ("made-up key",),
}
"""Those who are mostly told the same. A cell of a caller goes before that of the group."""
GROUP_OF = {caller: group for group, callers in GROUPS.items() for caller in callers}
CALLERS = tuple(GROUP_OF)

Cells = Mapping[str, str]


def everybody(cell: str) -> dict[str, str]:
    """Return the cells of a route that is the same to all whom TLS lets in."""
    return {**dict.fromkeys(GROUPS, cell), "strangers": TLS}


@dataclass(frozen=True)
class Row:
    """A route, a good call of it, and what each caller is answered.

    In path and body `{name}` stands for what the test has prepared. After the
    `last` ones who may call them is nobody.
    """

    route: str
    given: Cells
    body: Any = None
    path: str | None = None
    form: bool = False
    last: bool = False

    def cell(self, caller: str) -> str:
        """Return what the caller is answered."""
        own = self.given.get(caller)
        return self.given[GROUP_OF[caller]] if own is None else own

    def unknown(self) -> Iterator[str]:
        """Yield the names in it that are no caller and no group."""
        return (name for name in self.given if name not in GROUP_OF and name not in GROUPS)

    @property
    def changes(self) -> bool:
        """Return whether its call changes something where it is allowed."""
        return not self.route.startswith(("GET ", "HEAD "))
