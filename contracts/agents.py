"""Commands of the registry about the administrator's certificate, agents and their enrolment.

The registry resolves the raw credential in the transaction that acts: `FORBIDDEN` for who may not,
`CREDENTIAL_MISSING` for nobody, `CREDENTIAL_REFUSED` for a certificate that is no longer anybody's.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Generic

from pydantic import Field, StringConstraints

from contracts.certificates import SignedCertificate
from contracts.messages import PAGE_LIMIT, Command, Message, ReplyT, SerialHex
from contracts.principal import Credential
from contracts.subjects import Service, command


class Capability(StrEnum):
    """What an agent may do with the services behind; `tunnels:read` is never missing."""

    TUNNELS_READ = "tunnels:read"
    TUNNELS_WRITE = "tunnels:write"
    SERVICES_READ = "services:read"
    SERVICES_WRITE = "services:write"
    SYSTEM_READ = "system:read"
    SITES_READ = "sites:read"
    SITES_WRITE = "sites:write"


class EnrollmentMethod(StrEnum):
    """Who made an agent's key: the issuer (in a PKCS#12 bundle) or the agent itself."""

    P12 = "p12"
    HARDWARE_BOUND = "hardware-bound"


class AdminAuthMode(StrEnum):
    P12 = "p12"
    HARDWARE_BOUND = "hardware-bound"


class Onboarding(StrEnum):
    FRESH = "FRESH"
    COMPLETED = "COMPLETED"


Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?$")]
Capabilities = tuple[Capability, ...]
Sites = tuple[str, ...]


class Agent(Message):
    """An agent's row: a revoked label can be used again, so a label may have many."""

    label: Label
    serial_hex: SerialHex
    capabilities: Capabilities
    allowed_sites: Sites
    enrollment_method: EnrollmentMethod
    created_at: datetime
    expires_at: datetime
    revoked: bool


class AgentPage(Message):
    agents: tuple[Agent, ...]
    next_cursor: str | None


class CreatedAgent(Message):
    """The password of the PKCS#12 bundle is shown once."""

    agent: Agent
    p12_password: str = Field(repr=False)


class Bundle(Message):
    """A PKCS#12 file."""

    pkcs12: bytes


class EnrollmentToken(Message):
    """One use, 10 minutes, 32 random bytes in hex; shown once."""

    label: Label
    token: str = Field(repr=False)
    expires_at: datetime


class Enrolled(Message):
    """A hardware-bound agent's certificate; `ca_pem` is the content of `ca.crt`."""

    label: Label
    certificate: SignedCertificate
    ca_pem: str


class RotatedAdmin(Message):
    """The password of the new PKCS#12 bundle is shown once."""

    p12_password: str = Field(repr=False)
    expires_at: datetime


class UpgradedAdmin(Message):
    certificate: SignedCertificate
    ca_pem: str


class AuthMode(Message):
    mode: AdminAuthMode


class OnboardingStatus(Message):
    status: Onboarding


class AdminCommand(Command[ReplyT], Generic[ReplyT]):
    """What only the registered administrator may ask."""

    credential: Credential | None

    def audit_object(self) -> tuple[str, str]:
        return "admin", "admin"


class MtlsCertificates(Message):
    """The platform's own certificates for the administrator's overview."""

    ca_expires_at: datetime
    admin_expires_at: datetime


class GetMtlsCertificates(AdminCommand[MtlsCertificates]):
    """Say when the issuing CA (as the registry last saw it) and the admin certificate end."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "mtls", "get")
    REPLY: ClassVar[type[Message]] = MtlsCertificates


class RotateAdmin(AdminCommand[RotatedAdmin]):
    """Make a new PKCS#12 administrator; the caller's certificate is revoked by it.

    The superseded certificate may download the new bundle once within 10 minutes. Raises `GONE`
    where the administrator is hardware-bound.
    """

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "admin", "rotate")
    ACTION: ClassVar[str | None] = "admin_rotate"
    REPLY: ClassVar[type[Message]] = RotatedAdmin


class DownloadAdminBundle(AdminCommand[Bundle]):
    """Return the administrator's bundle. Raises `GONE` and `NOT_FOUND`."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "admin", "download")
    ACTION: ClassVar[str | None] = "admin_download"
    REPLY: ClassVar[type[Message]] = Bundle

    legacy: bool = False


class UpgradeAdmin(AdminCommand[UpgradedAdmin]):
    """Sign the administrator's own key and end PKCS#12. Raises `CONFLICT` the second time."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "admin", "upgrade")
    ACTION: ClassVar[str | None] = "admin_upgrade"
    REPLY: ClassVar[type[Message]] = UpgradedAdmin

    csr_pem: str = Field(max_length=16_384)


class GetAuthMode(AdminCommand[AuthMode]):
    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "admin", "get_auth_mode")
    REPLY: ClassVar[type[Message]] = AuthMode


class GetOnboarding(Command[OnboardingStatus]):
    """Say whether the platform is set up. Any valid certificate of ours may ask.

    With `credential` None it answers the gateway itself, which needs it before anything else.
    """

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "onboarding", "get")
    REPLY: ClassVar[type[Message]] = OnboardingStatus

    credential: Credential | None = None


class LabelCommand(Command[ReplyT], Generic[ReplyT]):
    """What the administrator asks about one label."""

    credential: Credential | None
    label: Label

    def audit_object(self) -> tuple[str, str]:
        return "agent", self.label


class CreateAgent(LabelCommand[CreatedAgent]):
    """Make an agent with a PKCS#12 bundle. Raises `ALREADY_EXISTS` with `label`."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "agent", "create")
    ACTION: ClassVar[str | None] = "agent_create"
    REPLY: ClassVar[type[Message]] = CreatedAgent

    capabilities: Capabilities = (Capability.TUNNELS_READ,)
    allowed_sites: Sites = ()


class ListAgents(Command[AgentPage]):
    """List agents in the order of their creation, revoked ones included."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "agent", "list")
    REPLY: ClassVar[type[Message]] = AgentPage

    credential: Credential | None
    limit: int = Field(ge=1, le=PAGE_LIMIT)
    cursor: str | None = None


class DownloadAgentBundle(LabelCommand[Bundle]):
    """Return an agent's bundle. Raises `NOT_FOUND` where there is none."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "agent", "download")
    ACTION: ClassVar[str | None] = "agent_download"
    REPLY: ClassVar[type[Message]] = Bundle

    legacy: bool = False


class SetCapabilities(LabelCommand[Agent]):
    """Change what an active agent may do, from its next request on."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "agent", "set_capabilities")
    ACTION: ClassVar[str | None] = "agent_set_capabilities"
    REPLY: ClassVar[type[Message]] = Agent

    capabilities: Capabilities


class SetAllowedSites(LabelCommand[Agent]):
    """Change the sites of an active agent, from its next request on."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "agent", "set_sites")
    ACTION: ClassVar[str | None] = "agent_set_sites"
    REPLY: ClassVar[type[Message]] = Agent

    allowed_sites: Sites


class RevokeAgent(LabelCommand[Agent]):
    """Revoke an active agent. Raises `NOT_FOUND` for a label without one."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "agent", "revoke")
    ACTION: ClassVar[str | None] = "agent_revoke"
    REPLY: ClassVar[type[Message]] = Agent


class CreateEnrollmentToken(LabelCommand[EnrollmentToken]):
    """Make an enrolment token. Raises `ALREADY_EXISTS` and `TOKEN_PENDING` with `label`."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "enrollment_token", "create")
    ACTION: ClassVar[str | None] = "token_create"
    REPLY: ClassVar[type[Message]] = EnrollmentToken

    capabilities: Capabilities = (Capability.TUNNELS_READ,)
    allowed_sites: Sites = ()


class CancelledToken(Message):
    label: Label


class CancelEnrollmentToken(LabelCommand[CancelledToken]):
    """Cancel a pending token. Raises `NOT_FOUND` where there is none."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "enrollment_token", "cancel")
    ACTION: ClassVar[str | None] = "token_cancel"
    REPLY: ClassVar[type[Message]] = CancelledToken


class EnrollAgent(Command[Enrolled]):
    """Exchange an enrolment token for a certificate of the agent's own key; public.

    Order of checks: `TOKEN_UNKNOWN`, `TOKEN_USED`, `TOKEN_EXPIRED`, `INVALID_CSR`,
    `ALREADY_EXISTS` with `label`. The token is consumed by the decision that records the
    certificate.
    """

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "agent", "enroll")
    ACTION: ClassVar[str | None] = "agent_enroll"
    REPLY: ClassVar[type[Message]] = Enrolled

    token: str = Field(repr=False)
    csr_pem: str

    def audit_object(self) -> tuple[str, str]:
        return "token", ""


class AgentCommand(Command[ReplyT], Generic[ReplyT]):
    """What an agent asks for itself, with its current certificate."""

    credential: Credential | None

    def audit_object(self) -> tuple[str, str]:
        return "agent", ""


class GetOwnAgent(AgentCommand[Agent]):
    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "agent", "get_own")
    REPLY: ClassVar[type[Message]] = Agent


class AuthorizedAgent(Message):
    label: Label


class AuthorizeAgent(AgentCommand[AuthorizedAgent]):
    """Say whether the agent has a capability and, where one is named, a site; else `FORBIDDEN`."""

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "agent", "authorize")
    REPLY: ClassVar[type[Message]] = AuthorizedAgent

    capability: str
    site: str | None = None


class RenewAgent(AgentCommand[Enrolled]):
    """Sign a new key of the agent.

    The old certificate is revoked when the new one is first used, or after 24 hours.
    """

    SUBJECT: ClassVar[str] = command(Service.REGISTRY, "agent", "renew")
    ACTION: ClassVar[str | None] = "agent_renew"
    REPLY: ClassVar[type[Message]] = Enrolled

    csr_pem: str
