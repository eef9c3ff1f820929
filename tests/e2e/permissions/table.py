"""Who may call what of the fastpki dialect: a row for each route, a cell for each caller.

What is called about belongs to one organisation: a CA and a certificate that `creator` has made,
and users. A cell is the status that the caller is answered; `Row.cell` says which that is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

KEY = "API key"
KEY_IN_ITS_HEADER = "API key in its own header"
"""These may everything in the project dialect, whose header is not looked at here."""
NOBODY = (
    "anonymous",
    "made-up token",
    "logged out",
    "deactivated",
    "deleted",
    KEY_IN_ITS_HEADER,
)
FLAGS = ("create_ca", "create_cert", "revoke_cert", "export_private_key", "delete_ca")
GRANTS = FLAGS[1:]
FLAGGED = {flag: f"flag {flag}" for flag in FLAGS}
GRANTED = {flag: f"grant of {flag}" for flag in GRANTS}

MEMBERS = (
    "plain",
    *FLAGGED.values(),
    *GRANTED.values(),
    "granted elsewhere",  # everything, on another CA of the same organisation
    "creator",  # of the CA and the certificate, without any flag
    "admin",
)
"""Users of the organisation."""
OUTSIDERS = (
    "other plain",
    "other with flags",  # all of them
    "other admin",
    "unattached",  # of no organisation
    "unattached with flags",
    "moved away",  # had grants, and is of another organisation now
)
USERS = (*MEMBERS, *OUTSIDERS, "superuser")
CALLERS = (*NOBODY, KEY, *USERS)

EVERY_USER = frozenset(USERS)
READERS = frozenset({*MEMBERS, "superuser"})
SUPERUSER = frozenset({"superuser"})
ADMINS = SUPERUSER | {"admin"}
ANY_ADMIN = ADMINS | {"other admin"}
OWNERS = ADMINS | {"creator"}


def may(flag: str) -> frozenset[str]:
    """Return who may do what a flag, or a grant of the same name, allows."""
    granted = {GRANTED[flag]} if flag in GRANTED else set()
    return OWNERS | {FLAGGED[flag]} | granted


@dataclass(frozen=True)
class Row:
    """A route, a good call of it, and who may make it.

    In path and body `{name}` stands for what the test has prepared. What a call that changes
    something is about is made for it. `others` are cells beside 401 for nobody and 403 for users.
    """

    route: str
    status: int
    allowed: frozenset[str]
    body: Any = None
    path: str | None = None
    form: bool = False
    others: dict[str, int] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Return whether its call changes something where it is allowed."""
        return not self.route.startswith("GET ")

    def cell(self, caller: str) -> int:
        """Return the status that the caller is answered."""
        if caller in self.others:
            return self.others[caller]
        if caller in self.allowed:
            return self.status
        return 401 if caller in NOBODY else 403

    def unknown(self) -> Iterator[str]:
        """Yield the callers in it that are none."""
        return (name for name in (*self.allowed, *self.others) if name not in CALLERS)


API = "/api/v1"
CA, CERTIFICATE = f"{API}/cas/{{ca_id}}", f"{API}/certificates/{{certificate_id}}"
USER, ORGANIZATION = f"{API}/users/{{user_id}}", f"{API}/organizations/{{organization_id}}"
NEW_CA = {"name": "New", "subject_dn": "CN=New {unique},O=Acme", "key_type": "ec"}
LEAF = {
    "common_name": "www.example.com",
    "subject_dn": "CN=www.example.com,O=Acme",
    "certificate_type": "server",
    "key_type": "ec",
}
NEW_USER = {
    "username": "u-{unique}",
    "email": "u-{unique}@example.com",
    "password": "a good password",
}

TABLE = (
    # Sessions
    Row(
        f"POST {API}/auth/token",
        401,
        frozenset(CALLERS),
        {"username": "nobody", "password": "wrong"},
        form=True,
    ),
    Row(f"POST {API}/auth/refresh", 401, frozenset(CALLERS), {"refresh_token": "made up"}),
    Row(f"POST {API}/auth/logout", 204, EVERY_USER),
    Row(f"POST {API}/auth/invalidate", 204, EVERY_USER),
    # Users
    Row(
        f"POST {API}/users",
        201,
        ANY_ADMIN,
        NEW_USER,
        others={"anonymous": 403, KEY_IN_ITS_HEADER: 403},
    ),
    Row(f"GET {API}/users", 200, SUPERUSER),
    Row(f"GET {API}/users/me", 200, EVERY_USER),
    Row(f"PATCH {API}/users/me", 200, EVERY_USER, {"email": "me-{unique}@example.com"}),
    Row(f"GET {USER}", 200, ADMINS),
    Row(f"GET {USER}", 200, EVERY_USER, path=f"{API}/users/{{own_id}}"),
    Row(f"PATCH {USER}", 200, ADMINS, {"can_create_cert": True}),
    Row(f"PATCH {USER}", 200, SUPERUSER, {"role": "admin"}),
    # nobody gives themselves anything, superusers neither
    Row(f"PATCH {USER}", 403, EVERY_USER, {"can_delete_ca": True}, f"{API}/users/{{own_id}}"),
    Row(f"DELETE {USER}", 204, SUPERUSER),
    # Organisations
    Row(f"POST {API}/organizations", 201, SUPERUSER, {"name": "o-{unique}"}),
    Row(f"GET {API}/organizations", 200, EVERY_USER),
    Row(f"GET {ORGANIZATION}", 200, READERS),
    Row(f"PUT {ORGANIZATION}", 200, ADMINS, {"description": "ours"}),
    Row(f"PATCH {ORGANIZATION}", 200, ADMINS, {"description": "ours"}),
    Row(f"DELETE {ORGANIZATION}", 204, SUPERUSER, path=f"{API}/organizations/{{empty_id}}"),
    Row(f"GET {ORGANIZATION}/users", 200, READERS),
    Row(
        f"POST {ORGANIZATION}/users/{{user_id}}",
        200,
        ADMINS,
        path=f"{ORGANIZATION}/users/{{unattached_id}}",
    ),
    Row(f"DELETE {ORGANIZATION}/users/{{user_id}}", 200, ADMINS),
    # Certificate authorities
    Row(
        f"POST {API}/cas",
        201,
        ANY_ADMIN | {FLAGGED["create_ca"], "other with flags", "unattached with flags"},
        NEW_CA,
    ),
    Row(f"POST {API}/cas", 201, may("create_ca"), {**NEW_CA, "parent_ca_id": "{ca_id}"}),
    Row(f"GET {API}/cas", 200, EVERY_USER),
    Row(f"GET {CA}", 200, READERS),
    Row(f"GET {CA}/chain", 200, READERS),
    Row(f"GET {CA}/children", 200, READERS),
    Row(f"GET {CA}/private-key", 200, may("export_private_key")),
    Row(f"POST {CA}/rotate", 201, may("create_ca")),
    Row(f"POST {CA}/retire", 200, may("delete_ca")),
    Row(f"DELETE {CA}", 204, may("delete_ca")),
    Row(f"GET {CA}/grants", 200, OWNERS),
    Row(f"PUT {CA}/grants/{{user_id}}", 200, OWNERS, {"capabilities": ["create_cert"]}),
    Row(
        f"DELETE {CA}/grants/{{user_id}}",
        204,
        OWNERS,
        path=f"{CA}/grants/{{granted_id}}",
    ),
    # The platform's own: superusers see them, and that is all
    Row(f"GET {CA}", 200, SUPERUSER, path=f"{API}/cas/1"),
    Row(f"GET {CA}/private-key", 409, SUPERUSER, path=f"{API}/cas/1/private-key"),
    Row(f"DELETE {CA}", 409, SUPERUSER, path=f"{API}/cas/2"),
    Row(f"POST {CA}/rotate", 409, SUPERUSER, path=f"{API}/cas/2/rotate"),
    Row(f"POST {CA}/retire", 409, SUPERUSER, path=f"{API}/cas/2/retire"),
    Row(f"POST {API}/cas", 409, SUPERUSER, {**NEW_CA, "parent_ca_id": 2}),
    # What there is none of: whoever asks is told, and nobody else
    Row(f"GET {CA}", 404, EVERY_USER, path=f"{API}/cas/999999"),
    Row(f"GET {CERTIFICATE}", 404, EVERY_USER, path=f"{API}/certificates/999999"),
    # Certificates
    Row(
        f"POST {API}/certificates",
        201,
        may("create_cert"),
        LEAF,
        path=f"{API}/certificates/?ca_id={{ca_id}}",
    ),
    Row(
        f"POST {API}/certificates/sign-csr",
        201,
        may("create_cert"),
        {"csr": "{csr}", "certificate_type": "server", "ca_id": "{ca_id}"},
    ),
    Row(f"GET {API}/certificates", 200, EVERY_USER),
    Row(f"GET {API}/certificates/search", 200, EVERY_USER),
    Row(f"GET {CERTIFICATE}", 200, READERS),
    Row(f"GET {CERTIFICATE}/private-key", 200, may("export_private_key")),
    Row(f"POST {CERTIFICATE}/revoke", 200, may("revoke_cert"), {"reason": "Superseded"}),
    # Files
    Row(f"GET {API}/export/ca/{{ca_id}}/certificate", 200, READERS),
    Row(f"GET {API}/export/ca/{{ca_id}}/private-key", 200, may("export_private_key")),
    Row(f"GET {API}/export/certificate/{{certificate_id}}", 200, READERS),
    Row(
        f"GET {API}/export/certificate/{{certificate_id}}/private-key",
        200,
        may("export_private_key"),
    ),
    Row(f"GET {API}/export/certificate/{{certificate_id}}/chain", 200, READERS),
    # The audit log
    Row(f"GET {API}/audit-logs", 200, ANY_ADMIN),
)
