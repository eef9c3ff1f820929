"""Routes that belong to no dialect: all of them are public, and those on the plain port more so."""

from tests.e2e.authorization.table import GROUPS, PLAIN, Row, everybody

ANYBODY = everybody("200")
ANYBODY_AT_ALL = dict.fromkeys(GROUPS, "200")
CHALLENGE = "/.well-known/acme-challenge"
PUBLISHED = {
    "/crl/{name}": "/crl/{slug}",
    "/ca/{name}": "/ca/{slug}.crt",
    "/ocsp/{slug}/{request_base64:path}": None,
}
"""Routes that both ports have, with the path of a good call."""

TABLE = (
    Row("GET /openapi.json", ANYBODY),
    Row("HEAD /openapi.json", ANYBODY),
    *(Row(f"{method} {PLAIN}/healthz", ANYBODY_AT_ALL) for method in ("GET", "HEAD")),
    *(Row(f"{method} {PLAIN}/readyz", ANYBODY_AT_ALL) for method in ("GET", "HEAD")),
    *(
        Row(f"{method} {port}{route}", cells, path=path and f"{port}{path}")
        for route, path in PUBLISHED.items()
        for method in ("GET", "HEAD")
        for port, cells in (("", ANYBODY), (PLAIN, ANYBODY_AT_ALL))
    ),
    # There is no order, and so no challenge.
    *(
        Row(
            f"{method} {PLAIN}{CHALLENGE}/{{token}}",
            dict.fromkeys(GROUPS, "404 Not found" if method == "GET" else "404"),
            path=f"{PLAIN}{CHALLENGE}/{'a' * 43}",
        )
        for method in ("GET", "HEAD")
    ),
    # An empty body is no OCSP request.
    Row("POST /ocsp/{slug}", everybody("400")),
    Row(f"POST {PLAIN}/ocsp/{{slug}}", dict.fromkeys(GROUPS, "400")),
)
