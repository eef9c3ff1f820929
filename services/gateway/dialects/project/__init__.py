"""The project dialect: projects, their public certificates, and the API keys of those who deploy.

A module for each group of routes, with what it reads and writes. The order of checks: path and
body (400), who asks (401), everything else in the services.
"""

from typing import Final

from services.gateway.dialects.dialect import Dialect
from services.gateway.dialects.project import api_keys, certificates, issuance, projects
from services.gateway.shapes import ProjectShape

ROUTERS: Final = (
    api_keys.router,
    projects.router,
    projects.domains,
    certificates.router,
    certificates.uploads,
    issuance.orders,
    issuance.router,
)

PROJECT: Final = Dialect(
    "project",
    (api_keys.PREFIX, projects.PREFIX),
    ProjectShape(),
    tuple(route for router in ROUTERS for route in router.routes),
)
