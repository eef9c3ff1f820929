"""The project dialect: API keys, each for what it may, and superusers; certificates are nothing."""

from tests.e2e.authorization.table import TLS, Row

NOT_AUTHENTICATED = "401 Not authenticated"
REFUSED = "401 Invalid or expired credential"
NOT_ENOUGH = "403 Not enough permissions"
NO_DOMAIN = "400 Project has no domain configured"
NO_CERTIFICATE = "404 No certificate found"

NOT_THESE = {
    "nobody": NOT_AUTHENTICATED,
    "strangers": TLS,
    "fallen": NOT_AUTHENTICATED,
    "agents": NOT_AUTHENTICATED,
    "instances": NOT_AUTHENTICATED,
    "admin": NOT_AUTHENTICATED,
    "users": NOT_ENOUGH,
    "keys": NOT_ENOUGH,
    "deleted key": REFUSED,
    "made-up token": REFUSED,
    "made-up key": REFUSED,
}

KEYS = "/api/v1/api-keys"
PROJECTS = "/api/v1/projects"
PROJECT = f"{PROJECTS}/{{id}}"
CERTIFICATE = f"{PROJECT}/certificate"
OBTAIN = {"email": "admin@example.com", "challengeType": "http-01"}
MATERIAL = {"certificate": "no certificate", "privateKey": "no key"}


def superusers(may: str) -> dict[str, str]:
    """Return the cells of what is a superuser's alone."""
    return {**NOT_THESE, "keys": "403 Forbidden", "deleted key": REFUSED, "superuser": may}


def writers(may: str) -> dict[str, str]:
    """Return the cells of what changes projects."""
    keys = (
        "key that writes",
        "key that may everything",
        "key that may everything, as a Bearer token",
    )
    return {**NOT_THESE, **dict.fromkeys(keys, may), "superuser": may}


def readers(may: str) -> dict[str, str]:
    """Return the cells of what reads projects."""
    return {**writers(may), "key that reads": may, "key that reads private keys": may}


def readers_of_keys(may: str) -> dict[str, str]:
    """Return the cells of what reads private keys: not every writer may, nor every reader."""
    return {**readers(may), "key that reads": NOT_ENOUGH, "key that writes": NOT_ENOUGH}


def about(name: str, route: str) -> str:
    """Return the path of a call about a project that was prepared."""
    return route.replace("{id}", f"{{{name}}}")


def without_domain(method: str, route: str, cells: dict[str, str], body: object = None) -> Row:
    """Return a row whose call is about the project that has no domain, and so no certificate."""
    return Row(f"{method} {route}", cells, body, path=about("project", route))


TABLE = (
    # API keys
    Row(
        f"POST {KEYS}",
        superusers("201"),
        {"name": "{new_label}", "permissions": {"projects": "write", "keys": "read"}},
    ),
    Row(f"GET {KEYS}", superusers("200")),
    Row(f"DELETE {KEYS}/{{id}}", superusers("204"), path=f"{KEYS}/{{key_to_delete}}"),
    # Projects
    Row(f"GET {PROJECTS}", readers("200")),
    Row(f"POST {PROJECTS}/create", writers("201"), {"id": "{new_project}", "name": "new"}),
    without_domain("GET", PROJECT, readers("200")),
    Row(f"DELETE {PROJECT}", writers("200"), path=about("project_to_delete", PROJECT)),
    without_domain("GET", f"{PROJECT}/domain", readers("200")),
    Row(
        f"POST {PROJECT}/domain",
        writers("200"),
        {"domain": "{domain}"},
        path=about("project_with_domain", f"{PROJECT}/domain"),
    ),
    Row(
        f"DELETE {PROJECT}/domain",
        writers("200"),
        path=about("project_with_domain", f"{PROJECT}/domain"),
    ),
    # Their certificates
    without_domain("GET", CERTIFICATE, readers("200")),
    without_domain("GET", f"{CERTIFICATE}/status", readers("200")),
    without_domain("GET", f"{CERTIFICATE}/orders", readers("200")),
    without_domain("GET", f"{CERTIFICATE}/download", readers(NO_CERTIFICATE)),
    without_domain("GET", f"{CERTIFICATE}/private-key", readers_of_keys(NO_CERTIFICATE)),
    without_domain("POST", f"{CERTIFICATE}/validate", readers("200"), MATERIAL),
    without_domain("POST", f"{CERTIFICATE}/upload", writers(NO_DOMAIN), MATERIAL),
    without_domain("POST", f"{CERTIFICATE}/preflight", writers(NO_DOMAIN), OBTAIN),
    without_domain("POST", f"{CERTIFICATE}/obtain", writers(NO_DOMAIN), OBTAIN),
    without_domain("POST", f"{CERTIFICATE}/renew", writers(NO_CERTIFICATE)),
    without_domain("POST", f"{CERTIFICATE}/revoke", writers(NO_CERTIFICATE)),
    without_domain("DELETE", CERTIFICATE, writers(NO_CERTIFICATE)),
)
