"""What the stand-ins say, and what clients send, where a test does not care."""

import base64
import os
from datetime import UTC, datetime
from uuid import UUID

from contracts.certificates import SignedCertificate
from contracts.instance import Instance, InstanceStatus
from contracts.principal import Principal, PrincipalKind, Role

INSTANCE = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
INSTANCES = "/internal/v1/instances"
RENEW = f"{INSTANCES}/{INSTANCE}/cert/renew"
REFRESH = f"{INSTANCES}/{INSTANCE}/secrets/refresh"
BOOTSTRAP = f"{INSTANCES}/{INSTANCE}/cert/bootstrap"
WG_KEY = base64.b64encode(os.urandom(32)).decode()
CSR = "c" * 100
RENEW_BODY = {"csr_pem": CSR, "wg_public_key": "string"}
REFRESH_BODY = {"vpn_ip": "10.8.0.2", "wg_public_key": "string"}
BOOTSTRAP_BODY = {**RENEW_BODY, "token": "t" * 43}
NEW_INSTANCE = {"name": "one", "wg_public_key": WG_KEY, "vpn_ip": "10.8.0.2"}
NOON = datetime(2026, 4, 19, 12, 0, 0, 123456, tzinfo=UTC)

ADMIN = Principal(kind=PrincipalKind.ADMIN, id="admin", name="admin")
SUPERUSER = Principal(kind=PrincipalKind.USER, id="1", name="root", role=Role.SUPERUSER)

SIGNED = SignedCertificate(
    certificate_pem="-----BEGIN CERTIFICATE-----\n",
    serial_hex="1f",
    fingerprint="f" * 64,
    not_before=NOON,
    not_after=NOON,
)
ONE = Instance(
    id=UUID(INSTANCE),
    name="one",
    status=InstanceStatus.PENDING,
    wg_public_key=WG_KEY,
    vpn_ip="10.8.0.2",
    created_at=NOON,
)
ONE_SHOWN = {
    "id": INSTANCE,
    "name": "one",
    "status": "pending",
    "wg_public_key": WG_KEY,
    "vpn_ip": "10.8.0.2",
    "created_at": "2026-04-19T12:00:00Z",
}
