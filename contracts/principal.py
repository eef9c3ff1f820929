"""Who calls: the credential as it was presented, and the principal that it stands for."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class CredentialKind(StrEnum):
    """How a caller may prove who it is."""

    CERTIFICATE = "certificate"
    BEARER = "bearer"
    API_KEY = "api_key"


class Credential(BaseModel):
    """A presented credential, by hash: the secret itself never crosses the bus.

    `sha256` is the lower-case hex SHA-256 of the certificate's whole DER, of the Bearer token, or
    of the API key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: CredentialKind
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class PrincipalKind(StrEnum):
    """What a principal is. `system` is the platform itself; `anonymous` has no credential."""

    ADMIN = "admin"
    AGENT = "agent"
    INSTANCE = "instance"
    USER = "user"
    API_KEY = "api_key"
    SUBSCRIBER = "subscriber"
    OPERATOR = "operator"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


class Role(StrEnum):
    """The role of a user."""

    SUPERUSER = "superuser"
    ADMIN = "admin"
    USER = "user"


class Principal(BaseModel):
    """Who a credential stands for, as the service that knows it says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: PrincipalKind
    id: str
    name: str
    fingerprint: str | None = None
    organization_id: int | None = None
    role: Role | None = None
    capabilities: tuple[str, ...] = ()
    allowed_sites: tuple[str, ...] = ()


ANONYMOUS = Principal(kind=PrincipalKind.ANONYMOUS, id="", name="anonymous")


def system(service: str) -> Principal:
    """Return the principal of a service that acts on its own, such as a sweeper."""
    return Principal(kind=PrincipalKind.SYSTEM, id=service, name=service)
