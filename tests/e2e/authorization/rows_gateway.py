"""Routes that belong to no dialect."""

from tests.e2e.authorization.table import GROUPS, Row, everybody

ANYBODY = everybody("200")
ON_THE_PLAIN_PORT = dict.fromkeys(GROUPS, "200")
PLAIN = "http://127.0.0.1:{http_port}"

TABLE = (
    Row("GET /openapi.json", ANYBODY),
    Row("HEAD /openapi.json", ANYBODY),
    Row("GET /healthz", ON_THE_PLAIN_PORT, path=f"{PLAIN}/healthz"),
    Row("HEAD /healthz", ON_THE_PLAIN_PORT, path=f"{PLAIN}/healthz"),
    Row("GET /readyz", ON_THE_PLAIN_PORT, path=f"{PLAIN}/readyz"),
    Row("HEAD /readyz", ON_THE_PLAIN_PORT, path=f"{PLAIN}/readyz"),
)
