"""What the registry says and what portlama clients send, where a test does not care."""

from datetime import UTC, datetime
from typing import Any

from contracts.acme import (
    DomainCertificatePage,
    GetRenewalSchedule,
    ListDomainCertificates,
    RenewalSchedule,
    RenewDomain,
)
from contracts.agents import (
    AdminAuthMode,
    Agent,
    AgentPage,
    AuthMode,
    AuthorizeAgent,
    AuthorizedAgent,
    Bundle,
    CancelEnrollmentToken,
    CancelledToken,
    Capability,
    CreateAgent,
    CreatedAgent,
    CreateEnrollmentToken,
    DownloadAdminBundle,
    DownloadAgentBundle,
    EnrollAgent,
    Enrolled,
    EnrollmentMethod,
    EnrollmentToken,
    GetAuthMode,
    GetMtlsCertificates,
    GetOwnAgent,
    ListAgents,
    MtlsCertificates,
    RenewAgent,
    RevokeAgent,
    RotateAdmin,
    RotatedAdmin,
    SetAllowedSites,
    SetCapabilities,
    UpgradeAdmin,
    UpgradedAdmin,
)
from contracts.certificates import SignedCertificate
from tests.contract.gateway.project_messages import ended
from tests.support.stand_in import Answer

BEGAN = datetime(2026, 3, 16, 10, 0, 0, 123456, tzinfo=UTC)
ENDS = datetime(2028, 3, 16, 9, 59, 59, 999999, tzinfo=UTC)
BEGAN_SHOWN, ENDS_SHOWN = "2026-03-16T10:00:00.123Z", "2028-03-16T09:59:59.999Z"
PASSWORD = "0123456789abcdef" * 2
LEAF = "-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----\n"
CA = LEAF * 2
CSR = "-----BEGIN CERTIFICATE REQUEST-----\n...\n-----END CERTIFICATE REQUEST-----"
TOKEN = "a1b2c3d4e5f6..."  # as the specification's example has it
LABEL = "macbook-pro"
NEW_AGENT = {
    "label": LABEL,
    "capabilities": ["tunnels:read", "sites:read", "sites:write"],
    "allowedSites": ["blog"],
}
AGENT = Agent(
    label=LABEL,
    serial_hex="abc123",
    capabilities=(Capability.TUNNELS_READ, Capability.SITES_READ),
    allowed_sites=("blog", "docs"),
    enrollment_method=EnrollmentMethod.P12,
    created_at=BEGAN,
    expires_at=ENDS,
    revoked=False,
)
SIGNED = SignedCertificate(
    certificate_pem=LEAF,
    serial_hex="abc123",
    fingerprint="f" * 64,
    not_before=BEGAN,
    not_after=ENDS,
)
ENROLLED = Enrolled(label=LABEL, certificate=SIGNED, ca_pem=CA)

ANSWERS: dict[type[Any], Answer] = {
    GetMtlsCertificates: MtlsCertificates(ca_expires_at=ENDS, admin_expires_at=ENDS),
    ListDomainCertificates: DomainCertificatePage(certificates=(), next_cursor=None),
    GetRenewalSchedule: RenewalSchedule(active=True, next_run=ENDS, last_run=BEGAN),
    RenewDomain: ended(),
    RotateAdmin: RotatedAdmin(p12_password=PASSWORD, expires_at=ENDS),
    DownloadAdminBundle: Bundle(pkcs12=b"\x30\x00\xff"),
    UpgradeAdmin: UpgradedAdmin(certificate=SIGNED, ca_pem=CA),
    GetAuthMode: AuthMode(mode=AdminAuthMode.P12),
    CreateAgent: CreatedAgent(agent=AGENT, p12_password=PASSWORD),
    ListAgents: AgentPage(agents=(AGENT,), next_cursor=None),
    DownloadAgentBundle: Bundle(pkcs12=b"\x30\x00\xff"),
    SetCapabilities: AGENT,
    SetAllowedSites: AGENT,
    RevokeAgent: AGENT,
    CreateEnrollmentToken: EnrollmentToken(label=LABEL, token="ab" * 32, expires_at=ENDS),
    CancelEnrollmentToken: CancelledToken(label=LABEL),
    EnrollAgent: ENROLLED,
    GetOwnAgent: AGENT,
    AuthorizeAgent: AuthorizedAgent(label=LABEL),
    RenewAgent: ENROLLED,
}

EVERY: tuple[tuple[str, str, object], ...] = (
    ("GET", "/api/certs", None),
    ("GET", "/api/certs/auto-renew-status", None),
    ("POST", "/api/certs/app.example.com/renew", None),
    ("POST", "/api/certs/mtls/rotate", None),
    ("GET", "/api/certs/mtls/download", None),
    ("POST", "/api/certs/admin/upgrade-to-hardware-bound", {"csr": CSR}),
    ("GET", "/api/certs/admin/auth-mode", None),
    ("POST", "/api/certs/agent", NEW_AGENT),
    ("GET", "/api/certs/agent", None),
    ("GET", f"/api/certs/agent/{LABEL}/download", None),
    ("PATCH", f"/api/certs/agent/{LABEL}/capabilities", {"capabilities": ["tunnels:read"]}),
    ("PATCH", f"/api/certs/agent/{LABEL}/allowed-sites", {"allowedSites": []}),
    ("DELETE", f"/api/certs/agent/{LABEL}", None),
    ("POST", "/api/certs/agent/enroll", NEW_AGENT),
    ("DELETE", f"/api/certs/agent/enroll/{LABEL}", None),
    ("GET", "/api/certs/agent/me", None),
    ("GET", "/api/certs/agent/authorize?capability=sites:read&site=blog", None),
    ("POST", "/api/certs/agent/renew", {"csr": CSR}),
)
"""Every endpoint that asks for a certificate and for onboarding to be completed."""
