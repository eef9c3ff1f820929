"""The fastpki dialect: users, organisations, certificate authorities and their certificates.

A module for each group of routes, with what it reads and writes.
"""

from typing import Final

from services.gateway.dialects.dialect import Dialect
from services.gateway.dialects.fastpki import (
    audit_logs,
    authentication,
    cas,
    certificates,
    export,
    inventory,
    organizations,
    users,
)
from services.gateway.shapes import FastapiShape

ROUTERS: Final = (
    authentication.router,
    audit_logs.router,
    cas.router,
    certificates.signing,
    inventory.router,  # before `/{certificate_id}`
    certificates.router,
    export.router,
    users.registration,
    users.router,
    organizations.router,
)
PREFIXES: Final = tuple(dict.fromkeys(router.prefix for router in ROUTERS))

FASTPKI: Final = Dialect(
    "fastpki",
    PREFIXES,
    FastapiShape(),
    tuple(route for router in ROUTERS for route in router.routes),
)
