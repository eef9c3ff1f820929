"""Bodies and answers of the instance dialect."""

import base64
import binascii
import ipaddress
import json
from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, Field, JsonValue, PlainSerializer

from contracts.certificates import SignedCertificate
from contracts.instance import BootstrapToken, Instance, InstanceStatus, InventoryRow
from services.gateway.dialects.dialect import Body

WG_KEY_BYTES: Final = 32
"""A Curve25519 public key (RFC 7748 section 5)."""
SECRETS_LIMIT_BYTES: Final = 64 * 1024
"""Of `agent_secrets` as compact JSON; the rulings leave it to us."""


def _printable(text: str) -> str:
    if not text.isprintable() or text.isspace():
        raise ValueError("must consist of printable characters")
    return text


def _address(text: str) -> str:
    try:
        ipaddress.IPv4Address(text)  # ASCII digits, 0 to 255, no leading zeros
    except ValueError:  # its own words repeat what was sent
        raise ValueError("must be an IPv4 address") from None
    return text


def _wg_public_key(text: str) -> str:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    canonical = base64.b64encode(key).decode() == text
    if len(key) != WG_KEY_BYTES or not canonical or not any(key):
        raise ValueError("must be a WireGuard public key: 32 bytes in canonical base64, not zero")
    return text


def _small(secrets: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(json.dumps(secrets, ensure_ascii=False, separators=(",", ":")).encode())
    if size > SECRETS_LIMIT_BYTES:
        raise ValueError(f"must be at most {SECRETS_LIMIT_BYTES} bytes of JSON")
    return secrets


def in_utc(moment: datetime) -> str:
    """Return the moment as this dialect prints it: `2026-04-19T12:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Moment = Annotated[datetime, PlainSerializer(in_utc)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
Reason = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]
WgPublicKey = Annotated[str, AfterValidator(_wg_public_key)]
CsrPem = Annotated[str, Field(min_length=100, max_length=10_000)]
VpnIp = Annotated[str, Field(pattern=r"^10\.\d{1,3}\.\d{1,3}\.\d{1,3}$"), AfterValidator(_address)]
AgentSecrets = Annotated[dict[str, JsonValue], AfterValidator(_small), Field(repr=False)]


class RenewRequest(Body):
    csr_pem: CsrPem
    wg_public_key: str


class BootstrapRequest(Body):
    token: Annotated[str, Field(min_length=1, max_length=512, repr=False)]
    csr_pem: CsrPem
    wg_public_key: str


class RenewedCertificate(Body):
    """The new certificate; the serial number in lower-case hex."""

    cert_pem: str
    cert_serial: str
    expires_at: Moment

    @classmethod
    def of(cls, signed: SignedCertificate) -> "RenewedCertificate":
        return cls.model_construct(
            cert_pem=signed.certificate_pem,
            cert_serial=signed.serial_hex,
            expires_at=signed.not_after,
        )


class RefreshRequest(Body):
    vpn_ip: VpnIp
    wg_public_key: str


class RefreshedSecrets(Body):
    agent_secrets: dict[str, JsonValue] = Field(repr=False)


class NewInstance(Body):
    name: Name
    wg_public_key: WgPublicKey
    vpn_ip: VpnIp
    agent_secrets: AgentSecrets = Field(default_factory=dict, repr=False)


class InstanceView(Body):
    """An instance, never with secrets or token."""

    id: UUID
    name: str
    status: InstanceStatus
    wg_public_key: str
    vpn_ip: str
    created_at: Moment

    @classmethod
    def of(cls, instance: Instance) -> "InstanceView":
        return cls.model_validate(instance, from_attributes=True)


class CreatedInstance(InstanceView):
    """The token is shown once."""

    bootstrap_token: str = Field(repr=False)
    bootstrap_expires_at: Moment


class InstanceList(Body):
    instances: list[InstanceView]
    next_cursor: str | None


class StatusChange(Body):
    status: InstanceStatus


class NewSecrets(Body):
    agent_secrets: AgentSecrets


class NewBootstrapToken(Body):
    """Shown once; those before it are spent."""

    bootstrap_token: str = Field(repr=False)
    bootstrap_expires_at: Moment

    @classmethod
    def of(cls, token: BootstrapToken) -> "NewBootstrapToken":
        return cls(bootstrap_token=token.token, bootstrap_expires_at=token.expires_at)


class Certificate(Body):
    """A row of the InternalCertInventory."""

    instance_id: UUID
    serial: str
    fingerprint: str
    issued_at: Moment
    expires_at: Moment
    revoked_at: Moment | None
    revocation_reason: str | None

    @classmethod
    def of(cls, row: InventoryRow) -> "Certificate":
        return cls(serial=row.serial_hex, **row.model_dump(exclude={"serial_hex"}))


class CertificateList(Body):
    certificates: list[Certificate]
    next_cursor: str | None


class Revocation(Body):
    reason: Reason | None = None


class Revoked(Body):
    serial: str
    revoked_at: Moment
