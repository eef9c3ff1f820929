"""The instance dialect."""

from tests.e2e.authorization.table import TLS, Row, everybody
from tests.support.client import INSTANCES, new_instance
from tests.support.csr import csr_pem

NOT_THEM = "401 Invalid mTLS cert or identity verification failed"
NOT_RUNNING = "409 Instance not running"

OF_ADMINISTRATORS = {
    "nobody": "401 Not authenticated",
    "strangers": TLS,
    "fallen": "403 Forbidden",
    "agents": "403 only an administrator may do this",
    "instances": "403 Forbidden",  # the registry, which is asked, knows none
    "users": "403 only an administrator may do this",
    "keys": "401 Not authenticated",  # their header is another dialect's
    "key that may everything, as a Bearer token": "403 only an administrator may do this",
    "made-up token": "401 Invalid or expired credential",
    "made-up key": "401 Not authenticated",
}
OF_THE_INSTANCE = {
    **everybody(NOT_THEM),
    "instance": "200",
    "stopped instance": NOT_RUNNING,
}

INSTANCE = f"{INSTANCES}/{{instance_id}}"
WHERE = {"vpn_ip": "{vpn_ip}", "wg_public_key": "{wg_public_key}"}
RENEWAL = {"csr_pem": csr_pem(), "wg_public_key": "{wg_public_key}"}


def administrators(may: str) -> dict[str, str]:
    """Return the cells of what administrators call."""
    return {**OF_ADMINISTRATORS, "admin": may, "superuser": may}


TABLE = (
    # What instances call.
    Row(f"POST {INSTANCE}/secrets/refresh", OF_THE_INSTANCE, WHERE),
    Row(f"POST {INSTANCE}/cert/renew", OF_THE_INSTANCE, RENEWAL, last=True),
    Row(f"POST {INSTANCE}/cert/bootstrap", everybody(NOT_THEM), {**RENEWAL, "token": "wrong"}),
    # What their administrators call.
    Row(f"POST {INSTANCES}", administrators("201"), new_instance()),
    Row(f"GET {INSTANCES}", administrators("200")),
    Row(f"GET {INSTANCE}", administrators("200")),
    Row(f"POST {INSTANCE}/bootstrap-token", administrators("201")),
    Row(f"PATCH {INSTANCE}", administrators("200"), {"status": "stopped"}),
    Row(f"PUT {INSTANCE}/secrets", administrators("204"), {"agent_secrets": {}}),
    Row(f"GET {INSTANCE}/certificates", administrators("200")),
    Row(f"POST {INSTANCE}/cert/revoke", administrators("200"), {}),
)
