"""What registry and acme say and what deployment tools send, where a test does not care."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from contracts.acme import (
    CertificateChain,
    CertificateStatus,
    CertificateType,
    CheckIssuance,
    CreateProject,
    DeleteProject,
    DownloadCertificate,
    FoundCertificate,
    GetOrder,
    GetPrivateKey,
    GetProject,
    GetPublicCertificate,
    ListOrders,
    ListProjects,
    ObtainCertificate,
    Order,
    OrderKind,
    OrderList,
    OrderState,
    Preflight,
    PreflightCheck,
    PrivateKey,
    Project,
    ProjectPage,
    ProjectStatus,
    PublicCertificate,
    RemoveCertificate,
    RemoveDomain,
    RenewPublicCertificate,
    RevokePublicCertificate,
    SetDomain,
    UploadCertificate,
    ValidateCertificate,
    Validation,
)
from contracts.api_keys import (
    ApiKey,
    ApiKeyPage,
    CreateApiKey,
    CreatedApiKey,
    DeleteApiKey,
    KeyAccess,
    KeyPermissions,
    ListApiKeys,
    ProjectAccess,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.messages import Done
from contracts.principal import Principal, PrincipalKind
from tests.support.stand_in import Answer

KEYS: Final = "/api/v1/api-keys"
PROJECTS: Final = "/api/v1/projects"
PROJECT: Final = f"{PROJECTS}/shop"
CERTIFICATE: Final = f"{PROJECT}/certificate"
DOMAIN: Final = "api.example.com"

KEY: Final = "cwk_" + "k" * 43
HEADERS: Final = {"X-API-Key": KEY}
DEPLOYER: Final = Principal(
    kind=PrincipalKind.API_KEY,
    id="7",
    name="deploy",
    capabilities=("projects:read", "projects:write"),
)
BEGAN: Final = datetime(2026, 1, 19, 12, 0, 0, 123456, tzinfo=UTC)
ENDS: Final = datetime(2026, 4, 19, 12, 0, 0, 999999, tzinfo=UTC)
BEGAN_SHOWN, ENDS_SHOWN = "2026-01-19T12:00:00Z", "2026-04-19T12:00:00Z"
EARLIER: Final = datetime(2025, 10, 21, tzinfo=UTC)
EARLIER_SHOWN: Final = "2025-10-21T00:00:00Z"

PERMISSIONS: Final = KeyPermissions(projects=ProjectAccess.WRITE, keys=KeyAccess.NONE)
API_KEY: Final = ApiKey(id=7, name="deploy", permissions=PERMISSIONS, created_at=BEGAN)
SHOP: Final = Project(
    id="shop",
    name="Shop",
    description=None,
    status=ProjectStatus.ACTIVE,
    domain=DOMAIN,
    created_at=BEGAN,
    updated_at=ENDS,
)
SHOP_SHOWN: Final = {
    "id": "shop",
    "name": "Shop",
    "description": None,
    "status": "active",
    "domain": DOMAIN,
    "createdAt": BEGAN_SHOWN,
    "updatedAt": ENDS_SHOWN,
}
ONE: Final = PublicCertificate(
    project_id="shop",
    domain=DOMAIN,
    names=(DOMAIN,),
    type=CertificateType.LETSENCRYPT,
    staging=False,
    issued_at=BEGAN,
    expires_at=ENDS,
    days_until_expiry=90,
    status=CertificateStatus.VALID,
    issuer_common_name="R11",
    issuer_organization="Let's Encrypt",
    serial_hex="1f",
    fingerprint="f" * 64,
    auto_renew=True,
    revoked_at=None,
    last_renew_attempt=None,
    last_renew_error=None,
)
ORDER: Final = Order(
    id=UUID("497f6eca-6276-4993-bfeb-53cbbbba6f08"),
    project_id="shop",
    domain=DOMAIN,
    kind=OrderKind.OBTAIN,
    state=OrderState.PENDING,
    staging=False,
    created_at=BEGAN,
    ended_at=None,
    error=None,
    certificate=None,
    renewed_from=None,
    warning=None,
)
PEM: Final = "-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----\n"
PRIVATE_KEY: Final = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"
CHAIN: Final = CertificateChain(domain=DOMAIN, chain_pem=PEM * 2, fingerprint="f" * 64)
STORED_KEY: Final = PrivateKey(domain=DOMAIN, private_key_pem=PRIVATE_KEY, fingerprint="f" * 64)
MATERIAL: Final = {"certificate": PEM * 2, "privateKey": PRIVATE_KEY}
OBTAIN: Final[dict[str, Any]] = {
    "email": "admin@example.com",
    "challengeType": "http-01",
    "autoRenew": True,
}


def with_dns(provider: str, **credentials: object) -> dict[str, Any]:
    """Return the body of an obtain by DNS."""
    dns = {"dnsProvider": provider, "dnsCredentials": credentials}
    return {**OBTAIN, "challengeType": "dns-01", **dns}


def ended(order: Order = ORDER, **changes: Any) -> Order:  # noqa: ANN401 - any field of the order
    """Return an order that gave a certificate."""
    ways = {"state": OrderState.VALID, "ended_at": ENDS, "certificate": ONE}
    return order.model_copy(update={**ways, **changes})


def failed(code: ErrorCode, detail: str, **more: Any) -> Order:  # noqa: ANN401 - of the error
    """Return an order that failed."""
    error = CertwireError(code, detail, **more).reply()
    return ended(state=OrderState.FAILED, certificate=None, error=error)


ANSWERS: Final[dict[type[Any], Answer]] = {
    CreateApiKey: CreatedApiKey(api_key=API_KEY, secret=KEY),
    ListApiKeys: ApiKeyPage(api_keys=(API_KEY,), next_cursor=None),
    DeleteApiKey: Done(),
    ListProjects: ProjectPage(projects=(SHOP,), next_cursor=None),
    CreateProject: SHOP,
    GetProject: SHOP,
    DeleteProject: Done(),
    SetDomain: SHOP,
    RemoveDomain: SHOP,
    GetPublicCertificate: FoundCertificate(certificate=ONE),
    ObtainCertificate: ended(),
    RenewPublicCertificate: ended(kind=OrderKind.RENEW, renewed_from=EARLIER),
    GetOrder: ended(),
    ListOrders: OrderList(orders=(ended(),)),
    UploadCertificate: ONE.model_copy(update={"type": CertificateType.CUSTOM}),
    ValidateCertificate: Validation(
        valid=True, domain=DOMAIN, expires_at=ENDS, issuer_organization="DigiCert Inc"
    ),
    RevokePublicCertificate: Done(),
    RemoveCertificate: Done(),
    DownloadCertificate: CHAIN,
    GetPrivateKey: STORED_KEY,
    CheckIssuance: Preflight(checks=(PreflightCheck(name="dns", ok=True),)),
}

OF_KEYS: Final[tuple[tuple[str, str, object, int], ...]] = (
    ("POST", KEYS, {"name": "deploy", "permissions": {"projects": "write"}}, 201),
    ("GET", KEYS, None, 200),
    ("DELETE", f"{KEYS}/7", None, 204),
)
OF_PROJECTS: Final[tuple[tuple[str, str, object, int], ...]] = (
    ("GET", PROJECTS, None, 200),
    ("POST", f"{PROJECTS}/create", {"id": "shop", "name": "Shop"}, 201),
    ("GET", PROJECT, None, 200),
    ("DELETE", PROJECT, None, 200),
    ("GET", f"{PROJECT}/domain", None, 200),
    ("POST", f"{PROJECT}/domain", {"domain": DOMAIN}, 200),
    ("DELETE", f"{PROJECT}/domain", None, 200),
    ("GET", CERTIFICATE, None, 200),
    ("POST", f"{CERTIFICATE}/obtain", OBTAIN, 200),
    ("POST", f"{CERTIFICATE}/upload", MATERIAL, 200),
    ("POST", f"{CERTIFICATE}/validate", MATERIAL, 200),
    ("POST", f"{CERTIFICATE}/renew", None, 200),
    ("POST", f"{CERTIFICATE}/revoke", None, 200),
    ("GET", f"{CERTIFICATE}/status", None, 200),
    ("DELETE", CERTIFICATE, None, 200),
    ("GET", f"{CERTIFICATE}/download", None, 200),
    ("GET", f"{CERTIFICATE}/private-key", None, 200),
    ("POST", f"{CERTIFICATE}/preflight", OBTAIN, 200),
    ("GET", f"{CERTIFICATE}/orders", None, 200),
)
EVERY: Final = OF_KEYS + OF_PROJECTS
"""Every endpoint with a good call, and what that is answered."""
