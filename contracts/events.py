"""Every event, in the past tense, with its CloudEvents attributes. Changes by addition only."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from pydantic import ConfigDict

from contracts.api_keys import KeyAccess, ProjectAccess
from contracts.certificates import CertificateKind, RevocationReason
from contracts.instance import InstanceStatus
from contracts.messages import Message, SerialHex, Sha256Hex
from contracts.principal import Role
from contracts.subjects import event


class Event(Message):
    """What happened; `ce_subject` names what it happened to. Open: readers skip what is new."""

    model_config = ConfigDict(extra="ignore")

    NOUN: ClassVar[str]
    VERB: ClassVar[str]

    def ce_subject(self) -> str:
        """Return the CloudEvents `subject`: the id of the object."""
        raise NotImplementedError(type(self).__name__)

    @classmethod
    def nats_subject(cls) -> str:
        """Return where the event is published."""
        return event(cls.NOUN, cls.VERB)

    @classmethod
    def ce_type(cls) -> str:
        """Return the CloudEvents `type`."""
        return f"certwire.{cls.NOUN}.{cls.VERB}"


class CertificateEvent(Event):
    """Facts of the certificate; `owner` is whom it names: an instance's id, say, or a project's."""

    NOUN: ClassVar[str] = "certificate"

    fingerprint: Sha256Hex
    serial_hex: SerialHex
    kind: CertificateKind
    issuer: str
    subject: str
    owner: str

    def ce_subject(self) -> str:
        return self.fingerprint


class CertificateIssued(CertificateEvent):
    VERB: ClassVar[str] = "issued"

    not_before: datetime
    not_after: datetime


class CertificateRenewed(CertificateEvent):
    VERB: ClassVar[str] = "renewed"

    not_before: datetime
    not_after: datetime
    renews: Sha256Hex


class CertificateRevoked(CertificateEvent):
    VERB: ClassVar[str] = "revoked"

    revoked_at: datetime
    reason: RevocationReason
    detail: str


class CertificateExpiring(CertificateEvent):
    """It ends within `days_ahead` days (30, 7 or 1): said once for each of them.

    `days_left`, the last one begun, is less where nothing could be said in time.
    """

    VERB: ClassVar[str] = "expiring"

    not_after: datetime
    days_ahead: int
    days_left: int


class CertificateExpired(CertificateEvent):
    VERB: ClassVar[str] = "expired"

    not_after: datetime


class CertificateUploaded(CertificateEvent):
    """A certificate of another CA, with its key, took its place in a project, the `owner`."""

    VERB: ClassVar[str] = "uploaded"

    not_before: datetime
    not_after: datetime


class CertificateRemoved(CertificateEvent):
    """A project, the `owner`, has it no longer; its key is gone. It is not revoked by this."""

    VERB: ClassVar[str] = "removed"


class ProjectEvent(Event):
    """A project; `domain` is what its certificates are for."""

    NOUN: ClassVar[str] = "project"

    project_id: str
    name: str
    domain: str | None

    def ce_subject(self) -> str:
        return self.project_id


class ProjectCreated(ProjectEvent):
    VERB: ClassVar[str] = "created"


class ProjectUpdated(ProjectEvent):
    """It has another domain, or none."""

    VERB: ClassVar[str] = "updated"


class ProjectDeleted(ProjectEvent):
    VERB: ClassVar[str] = "deleted"


class OrderFailed(Event):
    """No certificate of a public CA: why, and when it is tried again by itself, if it is."""

    NOUN: ClassVar[str] = "order"
    VERB: ClassVar[str] = "failed"

    order_id: UUID
    project_id: str
    domain: str
    kind: str
    reason: str
    retry_at: datetime | None

    def ce_subject(self) -> str:
        return str(self.order_id)


class CaEvent(Event):
    """A certificate authority, named by its slug."""

    NOUN: ClassVar[str] = "ca"

    ca: str
    fingerprint: Sha256Hex
    subject: str
    not_after: datetime

    def ce_subject(self) -> str:
        return self.ca


class CaCreated(CaEvent):
    VERB: ClassVar[str] = "created"


class CaRotated(CaEvent):
    """Its successor, of the same name, has a new key; itself it signs nothing new."""

    VERB: ClassVar[str] = "rotated"

    successor: str
    successor_fingerprint: Sha256Hex


class CaRetired(CaEvent):
    VERB: ClassVar[str] = "retired"


class CaDeleted(CaEvent):
    VERB: ClassVar[str] = "deleted"


class CrlPublished(Event):
    """A CRL took the place of the last one; `entries` is how many certificates it lists."""

    NOUN: ClassVar[str] = "crl"
    VERB: ClassVar[str] = "published"

    ca: str
    number: int
    this_update: datetime
    next_update: datetime
    entries: int

    def ce_subject(self) -> str:
        return self.ca


class AdminEvent(Event):
    """A new administrator's certificate took the place of the old one."""

    NOUN: ClassVar[str] = "admin"

    fingerprint: Sha256Hex
    serial_hex: SerialHex

    def ce_subject(self) -> str:
        return "admin"


class AdminReset(AdminEvent):
    VERB: ClassVar[str] = "reset"


class AdminRotated(AdminEvent):
    VERB: ClassVar[str] = "rotated"


class AdminUpgraded(AdminEvent):
    VERB: ClassVar[str] = "upgraded"


class AgentEvent(Event):
    NOUN: ClassVar[str] = "agent"

    label: str
    fingerprint: Sha256Hex
    serial_hex: SerialHex

    def ce_subject(self) -> str:
        return self.label


class AgentCreated(AgentEvent):
    VERB: ClassVar[str] = "created"


class AgentEnrolled(AgentEvent):
    VERB: ClassVar[str] = "enrolled"


class AgentRenewed(AgentEvent):
    VERB: ClassVar[str] = "renewed"


class AgentRevoked(AgentEvent):
    VERB: ClassVar[str] = "revoked"


class AgentCapabilitiesChanged(AgentEvent):
    VERB: ClassVar[str] = "capabilities_changed"

    capabilities: tuple[str, ...]


class AgentSitesChanged(AgentEvent):
    VERB: ClassVar[str] = "sites_changed"

    allowed_sites: tuple[str, ...]


class TokenEvent(Event):
    """An enrolment token, named by its agent's label alone."""

    NOUN: ClassVar[str] = "token"

    label: str

    def ce_subject(self) -> str:
        return self.label


class TokenCreated(TokenEvent):
    VERB: ClassVar[str] = "created"

    expires_at: datetime


class TokenConsumed(TokenEvent):
    VERB: ClassVar[str] = "consumed"


class TokenCancelled(TokenEvent):
    VERB: ClassVar[str] = "cancelled"


class InstanceEvent(Event):
    NOUN: ClassVar[str] = "instance"

    instance_id: UUID
    name: str
    status: InstanceStatus

    def ce_subject(self) -> str:
        return str(self.instance_id)


class InstanceCreated(InstanceEvent):
    VERB: ClassVar[str] = "created"


class InstanceBootstrapped(InstanceEvent):
    VERB: ClassVar[str] = "bootstrapped"

    fingerprint: Sha256Hex


class InstanceStarted(InstanceEvent):
    VERB: ClassVar[str] = "started"


class InstanceStopped(InstanceEvent):
    VERB: ClassVar[str] = "stopped"


class InstanceTerminated(InstanceEvent):
    VERB: ClassVar[str] = "terminated"


class InstanceSecretsChanged(InstanceEvent):
    VERB: ClassVar[str] = "secrets_changed"


class UserEvent(Event):
    """A user as it is after what happened; of a deleted one, as it was last."""

    NOUN: ClassVar[str] = "user"

    user_id: int
    username: str
    role: Role
    organization_id: int | None
    is_active: bool

    def ce_subject(self) -> str:
        return str(self.user_id)


class UserCreated(UserEvent):
    VERB: ClassVar[str] = "created"


class UserUpdated(UserEvent):
    """Anything of a user is another, membership of an organisation and the password included."""

    VERB: ClassVar[str] = "updated"


class UserDeleted(UserEvent):
    VERB: ClassVar[str] = "deleted"


class OrganizationEvent(Event):
    NOUN: ClassVar[str] = "organization"

    organization_id: int
    name: str

    def ce_subject(self) -> str:
        return str(self.organization_id)


class OrganizationCreated(OrganizationEvent):
    VERB: ClassVar[str] = "created"


class OrganizationUpdated(OrganizationEvent):
    VERB: ClassVar[str] = "updated"


class OrganizationDeleted(OrganizationEvent):
    VERB: ClassVar[str] = "deleted"


class ApiKeyEvent(Event):
    """An API key, by its id and name; nothing of its secret."""

    NOUN: ClassVar[str] = "api_key"

    api_key_id: int
    name: str
    projects: ProjectAccess
    keys: KeyAccess

    def ce_subject(self) -> str:
        return str(self.api_key_id)


class ApiKeyCreated(ApiKeyEvent):
    VERB: ClassVar[str] = "created"


class ApiKeyDeleted(ApiKeyEvent):
    VERB: ClassVar[str] = "deleted"
