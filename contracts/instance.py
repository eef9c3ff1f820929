"""Commands of the instance service: running instances and their 24-hour certificates."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from pydantic import Field, JsonValue

from contracts.certificates import SignedCertificate
from contracts.messages import PAGE_LIMIT, Command, Done, Message, SerialHex, Sha256Hex
from contracts.principal import Credential, Principal
from contracts.subjects import Service, command


class InstanceStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    TERMINATED = "terminated"


class Instance(Message):
    """An instance as its administrators see it; `wg_public_key` is canonical base64."""

    id: UUID
    name: str
    status: InstanceStatus
    wg_public_key: str
    vpn_ip: str
    created_at: datetime


class BootstrapToken(Message):
    """One use, 15 minutes, 256 random bits; shown once and stored as a hash."""

    token: str = Field(repr=False)
    expires_at: datetime


class CreatedInstance(Message):
    instance: Instance
    bootstrap: BootstrapToken


class InstancePage(Message):
    instances: tuple[Instance, ...]
    next_cursor: str | None


class InventoryRow(Message):
    """A row of the InternalCertInventory."""

    instance_id: UUID
    serial_hex: SerialHex
    fingerprint: Sha256Hex
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revocation_reason: str | None


class InventoryPage(Message):
    certificates: tuple[InventoryRow, ...]
    next_cursor: str | None


class RevokedCertificate(Message):
    serial_hex: SerialHex
    revoked_at: datetime


class AgentSecrets(Message):
    agent_secrets: dict[str, JsonValue] = Field(repr=False)


class CreateInstance(Command[CreatedInstance]):
    """Register an instance. Raises `INVALID_REQUEST` for a bad key or address."""

    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "instance", "create")
    ACTION: ClassVar[str | None] = "instance_create"
    REPLY: ClassVar[type[Message]] = CreatedInstance

    principal: Principal
    name: str
    wg_public_key: str
    vpn_ip: str
    agent_secrets: dict[str, JsonValue] = Field(default_factory=dict, repr=False)

    def audit_object(self) -> tuple[str, str]:
        return "instance", ""


class ListInstances(Command[InstancePage]):
    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "instance", "list")
    REPLY: ClassVar[type[Message]] = InstancePage

    principal: Principal
    limit: int = Field(ge=1, le=PAGE_LIMIT)
    cursor: str | None = None


class InstanceCommand(Command[Instance]):
    """What is asked of one instance by an administrator. Raises `NOT_FOUND`."""

    REPLY: ClassVar[type[Message]] = Instance

    principal: Principal
    instance_id: UUID

    def audit_object(self) -> tuple[str, str]:
        return "instance", str(self.instance_id)


class GetInstance(InstanceCommand):
    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "instance", "get")


class SetInstanceStatus(InstanceCommand):
    """Move along pending → running ⇄ stopped, any → terminated; else `INVALID_TRANSITION`."""

    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "instance", "set_status")
    ACTION: ClassVar[str | None] = "instance_set_status"

    status: InstanceStatus


class PutSecrets(Command[Done]):
    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "secrets", "put")
    ACTION: ClassVar[str | None] = "instance_put_secrets"
    REPLY: ClassVar[type[Message]] = Done

    principal: Principal
    instance_id: UUID
    agent_secrets: dict[str, JsonValue] = Field(repr=False)

    def audit_object(self) -> tuple[str, str]:
        return "instance", str(self.instance_id)


class CreateBootstrapToken(Command[BootstrapToken]):
    """Make a new token; those before it are spent."""

    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "bootstrap_token", "create")
    ACTION: ClassVar[str | None] = "bootstrap_token_create"
    REPLY: ClassVar[type[Message]] = BootstrapToken

    principal: Principal
    instance_id: UUID

    def audit_object(self) -> tuple[str, str]:
        return "instance", str(self.instance_id)


class ListInstanceCertificates(Command[InventoryPage]):
    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "certificate", "list")
    REPLY: ClassVar[type[Message]] = InventoryPage

    principal: Principal
    instance_id: UUID
    limit: int = Field(ge=1, le=PAGE_LIMIT)
    cursor: str | None = None


class RevokeInstanceCertificate(Command[RevokedCertificate]):
    """Revoke the instance's current certificate. Raises `NOT_FOUND` where it has none."""

    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "certificate", "revoke")
    ACTION: ClassVar[str | None] = "cert_revoke"
    REPLY: ClassVar[type[Message]] = RevokedCertificate

    principal: Principal
    instance_id: UUID
    reason: str | None = None

    def audit_object(self) -> tuple[str, str]:
        return "instance", str(self.instance_id)


class BootstrapCertificate(Command[SignedCertificate]):
    """Exchange a bootstrap token for the first certificate."""

    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "certificate", "bootstrap")
    ACTION: ClassVar[str | None] = "cert_bootstrap"
    REPLY: ClassVar[type[Message]] = SignedCertificate

    instance_id: UUID
    token: str = Field(repr=False)
    csr_pem: str
    wg_public_key: str

    def audit_object(self) -> tuple[str, str]:
        return "instance", str(self.instance_id)


class RenewCertificate(Command[SignedCertificate]):
    """Renew the certificate that is presented as `credential`; None where there was none."""

    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "certificate", "renew")
    ACTION: ClassVar[str | None] = "cert_renew"
    REPLY: ClassVar[type[Message]] = SignedCertificate

    instance_id: UUID
    credential: Credential | None
    csr_pem: str
    wg_public_key: str

    def audit_object(self) -> tuple[str, str]:
        return "instance", str(self.instance_id)


class RefreshSecrets(Command[AgentSecrets]):
    """Return the current secrets to the instance that they belong to."""

    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "secrets", "refresh")
    ACTION: ClassVar[str | None] = "instance_refresh_secrets"
    REPLY: ClassVar[type[Message]] = AgentSecrets

    instance_id: UUID
    credential: Credential | None
    vpn_ip: str
    wg_public_key: str

    def audit_object(self) -> tuple[str, str]:
        return "instance", str(self.instance_id)


class ResolvedInstance(Message):
    """None where the certificate is not the current one of an instance that lives."""

    principal: Principal | None


class ResolveInstance(Command[ResolvedInstance]):
    """Say whose certificate this is, for what any certificate of the platform may ask."""

    SUBJECT: ClassVar[str] = command(Service.INSTANCE, "credential", "resolve")
    REPLY: ClassVar[type[Message]] = ResolvedInstance

    credential: Credential


class InboundInstanceStatus(Message):
    """What an orchestrator reports on `certwire.inbound.<user>.instance.status`.

    A request in the binary mode of CloudEvents: `ce-id` in the headers makes it idempotent.
    """

    instance_id: UUID
    status: InstanceStatus
