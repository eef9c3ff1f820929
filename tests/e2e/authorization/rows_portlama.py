"""The portlama dialect."""

from tests.e2e.authorization.table import TLS, Row, everybody
from tests.support.agents import AGENTS, ENROLL
from tests.support.csr import csr_pem

NO_CERTIFICATE = "403 mTLS certificate required"
NOT_ACCEPTED = "403 Certificate is not accepted"
NO_SCOPE = "403 Insufficient certificate scope"
INVALID_CSR = "400 Invalid CSR: structure or signature verification failed"

NOT_THESE = {
    "nobody": NO_CERTIFICATE,
    "superuser": NO_CERTIFICATE,  # tokens and API keys belong to other dialects
    "users": NO_CERTIFICATE,
    "keys": NO_CERTIFICATE,
    "made-up token": NO_CERTIFICATE,
    "made-up key": NO_CERTIFICATE,
    "strangers": TLS,
    "fallen": NOT_ACCEPTED,
}
OF_THE_ADMIN = {**NOT_THESE, "agents": NO_SCOPE, "instances": NOT_ACCEPTED}
OF_AGENTS = {**NOT_THESE, "agents": "200", "instances": NOT_ACCEPTED, "admin": NO_SCOPE}
OF_THE_ABLE = {
    **OF_AGENTS,
    "agents": NO_SCOPE,
    "able agent": "204",
    "proxy for an able agent": "204",
}
OF_EVERY_CERTIFICATE = {**NOT_THESE, "agents": "200", "instances": "200", "admin": "200"}

AGENT = f"{AGENTS}/{{label}}"
CERTS = "/api/certs"
NO_CSR = "-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 100


def admin(may: str) -> dict[str, str]:
    """Return the cells of what the administrator calls."""
    return {**OF_THE_ADMIN, "admin": may}


TABLE = (
    # Anybody
    Row(
        f"POST {ENROLL}",
        everybody("401 Invalid enrollment token"),
        {"token": "1", "csr": csr_pem()},
    ),
    # Every certificate
    Row("GET /api/health", OF_EVERY_CERTIFICATE),
    Row("GET /api/onboarding/status", OF_EVERY_CERTIFICATE),
    # Agents
    Row(f"GET {AGENTS}/me", OF_AGENTS),
    Row(
        f"GET {AGENTS}/authorize",
        OF_THE_ABLE,
        path=f"{AGENTS}/authorize?capability=system:read",
    ),
    Row(f"POST {AGENTS}/renew", OF_AGENTS, {"csr": csr_pem()}),
    # The administrator
    Row(f"GET {CERTS}", admin("200")),
    Row(f"GET {CERTS}/auto-renew-status", admin("200")),
    Row(
        f"POST {CERTS}/{{domain}}/renew",
        admin("404 Certificate not found"),
        path=f"{CERTS}/a.example.com/renew",
    ),
    Row(f"GET {CERTS}/admin/auth-mode", admin("200")),
    Row(f"POST {CERTS}/admin/upgrade-to-hardware-bound", admin(INVALID_CSR), {"csr": NO_CSR}),
    Row(f"GET {AGENTS}", admin("200")),
    Row(f"POST {AGENTS}", admin("200"), {"label": "{new_label}"}),
    Row(f"GET {AGENT}/download", admin("200")),
    Row(f"PATCH {AGENT}/capabilities", admin("200"), {"capabilities": ["tunnels:read"]}),
    Row(f"PATCH {AGENT}/allowed-sites", admin("200"), {"allowedSites": ["blog"]}),
    Row(f"DELETE {AGENT}", admin("200")),
    Row(f"POST {AGENTS}/enroll", admin("200"), {"label": "{newer_label}"}),
    Row(
        f"DELETE {AGENTS}/enroll/{{label}}",
        admin("200"),
        path=f"{AGENTS}/enroll/{{pending_label}}",
    ),
    Row(
        f"GET {CERTS}/mtls/download",
        admin("200") | {"superseded admin": "200"},  # once, by the grant of the rotation
    ),
    Row(f"POST {CERTS}/mtls/rotate", admin("200"), last=True),
)
