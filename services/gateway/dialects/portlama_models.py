"""Bodies and answers of the portlama dialect: names in camelCase, serial numbers in upper case."""

import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, AliasGenerator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from contracts.acme import DomainCertificate
from contracts.agents import (
    AdminAuthMode,
    Agent,
    Capability,
    CreatedAgent,
    Enrolled,
    EnrollmentMethod,
    EnrollmentToken,
    Label,
    MtlsCertificates,
    Onboarding,
    UpgradedAdmin,
)
from services.gateway.dialects.dialect import FEW_ITEMS, Body

EXPIRING_SOON_DAYS: Final = 30
DAY: Final = timedelta(days=1)
SITE_CHARACTERS: Final = 100
"""The rulings' number."""
NOT_IN_SITES: Final = frozenset("/\\")
CONTROL: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Unicode's categories of control, format, line and paragraph separators."""
CSR_HEADER: Final = re.compile(r"-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----")
"""RFC 7468 section 7."""


def in_milliseconds(moment: datetime) -> str:
    """Return the moment as this dialect prints it: `2026-03-14T03:00:00.000Z`."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def days_until(moment: datetime, now: datetime) -> int:
    """Return the whole days that are left, negative once it is over."""
    return math.floor((moment - now) / DAY)


def _with_tunnels_read(capabilities: tuple[Capability, ...]) -> tuple[Capability, ...]:
    if Capability.TUNNELS_READ not in capabilities:
        raise ValueError(f"Must always include {Capability.TUNNELS_READ}")
    return capabilities


def is_site(name: str) -> bool:
    """Return whether this can be the name of a site."""
    return (
        1 <= len(name) <= SITE_CHARACTERS
        and name not in {".", ".."}
        and NOT_IN_SITES.isdisjoint(name)
        and not any(unicodedata.category(character) in CONTROL for character in name)
    )


def _site(text: str) -> str:
    if not is_site(text):
        raise ValueError(
            f"Must have 1 to {SITE_CHARACTERS} characters, no path separators and no control"
            " characters"
        )
    return text


def _csr(text: str) -> str:
    if not CSR_HEADER.search(text):
        raise ValueError("Must be a PEM-encoded certificate signing request")
    return text


Moment = Annotated[datetime, PlainSerializer(in_milliseconds)]
Serial = Annotated[str, PlainSerializer(str.upper)]
Capabilities = Annotated[tuple[Capability, ...], AfterValidator(_with_tunnels_read), FEW_ITEMS]
Sites = Annotated[tuple[Annotated[str, AfterValidator(_site)], ...], FEW_ITEMS]
Csr = Annotated[str, AfterValidator(_csr)]


class Sent(Body):
    """What a caller sends; members without a meaning are not looked at."""

    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=to_camel))


class Answer(Body):
    """What is answered."""

    model_config = ConfigDict(alias_generator=AliasGenerator(serialization_alias=to_camel))


# --- Errors -----------------------------------------------------------------------------------


class Failure(Answer):
    """An error."""

    error: str


class Problem(Answer):
    """What is wrong, and where in the body, the path or the query."""

    path: list[str | int]
    message: str


class Problems(Answer):
    issues: list[Problem]


class Invalid(Answer):
    """A request that is not as the schema has it."""

    error: Literal["Validation failed"]
    details: Problems


# --- The overview -----------------------------------------------------------------------------


class Certificate(Answer):
    """A row of the overview; `path` is where the original would have the file."""

    type: Literal["letsencrypt", "mtls-ca", "mtls-client"]
    domain: str | None = None
    expires_at: Moment
    days_until_expiry: int
    path: str
    expiring_soon: bool


class CertificateList(Answer):
    certs: list[Certificate]

    @classmethod
    def of(
        cls,
        mtls: MtlsCertificates | None,
        domains: Sequence[DomainCertificate],
        now: datetime,
    ) -> "CertificateList":
        """Return a row for each certificate, those that end first in front."""
        rows = [_domain_row(certificate, now) for certificate in domains]
        if mtls is not None:
            ca, admin = mtls.ca_expires_at, mtls.admin_expires_at
            rows += [
                _mtls_row("mtls-ca", ca, "/etc/portlama/pki/ca.crt", now),
                _mtls_row("mtls-client", admin, "/etc/portlama/pki/client.crt", now),
            ]
        return cls(certs=sorted(rows, key=lambda row: row.expires_at))


def _mtls_row(
    kind: Literal["mtls-ca", "mtls-client"], expires_at: datetime, path: str, now: datetime
) -> Certificate:
    days = days_until(expires_at, now)
    return Certificate(
        type=kind,
        expires_at=expires_at,
        days_until_expiry=days,
        path=path,
        expiring_soon=days <= EXPIRING_SOON_DAYS,
    )


def _domain_row(certificate: DomainCertificate, now: datetime) -> Certificate:
    days = days_until(certificate.expires_at, now)
    return Certificate(
        type="letsencrypt",
        domain=certificate.domain,
        expires_at=certificate.expires_at,
        days_until_expiry=days,
        path=certificate.path,
        expiring_soon=days <= EXPIRING_SOON_DAYS and not certificate.revoked,
    )


class AutoRenewStatus(Answer):
    active: bool
    next_run: Moment | None
    last_run: Moment | None


class RenewedDomain(Answer):
    ok: Literal[True] = True
    domain: str
    new_expiry: Moment | None


class RenewedDomainWithWarning(RenewedDomain):
    """It is renewed, but those who use it may not know yet."""

    warning: str


# --- The administrator ------------------------------------------------------------------------


class Rotated(Answer):
    """The password is shown once."""

    ok: Literal[True] = True
    p12_password: str = Field(repr=False)
    expires_at: Moment
    warning: str = (
        "Your current browser certificate is now invalid. Download and import the new certificate"
        " before closing this page."
    )


class NewCsr(Sent):
    csr: Csr


class Upgraded(Answer):
    ok: Literal[True] = True
    cert: str
    ca_cert: str
    serial: Serial
    expires_at: Moment

    @classmethod
    def of(cls, upgraded: UpgradedAdmin) -> "Upgraded":
        return cls(
            cert=upgraded.certificate.certificate_pem,
            ca_cert=upgraded.ca_pem,
            serial=upgraded.certificate.serial_hex,
            expires_at=upgraded.certificate.not_after,
        )


class AuthModeView(Answer):
    admin_auth_mode: AdminAuthMode


# --- Agents -----------------------------------------------------------------------------------


class NewAgent(Sent):
    label: Label
    capabilities: Capabilities = (Capability.TUNNELS_READ,)
    allowed_sites: Sites = ()


class AgentCreated(Answer):
    """The password is shown once."""

    ok: Literal[True] = True
    label: str
    p12_password: str = Field(repr=False)
    serial: Serial
    expires_at: Moment

    @classmethod
    def of(cls, created: CreatedAgent) -> "AgentCreated":
        return cls(
            label=created.agent.label,
            p12_password=created.p12_password,
            serial=created.agent.serial_hex,
            expires_at=created.agent.expires_at,
        )


class AgentView(Answer):
    label: str
    serial: Serial
    capabilities: tuple[Capability, ...]
    allowed_sites: tuple[str, ...]
    enrollment_method: EnrollmentMethod
    created_at: Moment
    expires_at: Moment
    revoked: bool
    expiring_soon: bool

    @classmethod
    def of(cls, agent: Agent, now: datetime) -> "AgentView":
        soon = days_until(agent.expires_at, now) <= EXPIRING_SOON_DAYS
        return cls.model_construct(
            **{name: getattr(agent, name) for name in _SHOWN},
            serial=agent.serial_hex,
            expiring_soon=soon and not agent.revoked,
        )


_SHOWN: Final = frozenset(AgentView.model_fields) & frozenset(Agent.model_fields)


class AgentList(Answer):
    agents: list[AgentView]


class AgentListPage(AgentList):
    """A page, or the first 10,000 of more agents than that."""

    next_cursor: str | None


class OwnAgent(Answer):
    """An agent as it sees itself."""

    label: str
    capabilities: tuple[Capability, ...]
    allowed_sites: tuple[str, ...]
    enrollment_method: EnrollmentMethod
    serial: Serial
    expires_at: Moment

    @classmethod
    def of(cls, agent: Agent) -> "OwnAgent":
        return cls(
            label=agent.label,
            capabilities=agent.capabilities,
            allowed_sites=agent.allowed_sites,
            enrollment_method=agent.enrollment_method,
            serial=agent.serial_hex,
            expires_at=agent.expires_at,
        )


class NewCapabilities(Sent):
    capabilities: Capabilities


class ChangedCapabilities(Answer):
    ok: Literal[True] = True
    label: str
    capabilities: tuple[Capability, ...]


class NewSites(Sent):
    allowed_sites: Sites


class ChangedSites(Answer):
    ok: Literal[True] = True
    label: str
    allowed_sites: tuple[str, ...]


class Labelled(Answer):
    """It is done."""

    ok: Literal[True] = True
    label: str


# --- Enrolment --------------------------------------------------------------------------------


class NewToken(Answer):
    """The token is shown once."""

    ok: Literal[True] = True
    token: str = Field(repr=False)
    label: str
    expires_at: Moment

    @classmethod
    def of(cls, made: EnrollmentToken) -> "NewToken":
        return cls(token=made.token, label=made.label, expires_at=made.expires_at)


class Enrolment(Sent):
    token: Annotated[str, Field(min_length=1, max_length=512, repr=False)]
    csr: Csr


class EnrolledAgent(Answer):
    """The certificate of a key that the agent keeps; `ca_cert` is what to trust."""

    ok: Literal[True] = True
    cert: str
    ca_cert: str
    label: str
    serial: Serial
    expires_at: Moment

    @classmethod
    def of(cls, enrolled: Enrolled) -> "EnrolledAgent":
        return cls(
            cert=enrolled.certificate.certificate_pem,
            ca_cert=enrolled.ca_pem,
            label=enrolled.label,
            serial=enrolled.certificate.serial_hex,
            expires_at=enrolled.certificate.not_after,
        )


# --- The platform -----------------------------------------------------------------------------


class OnboardingView(Answer):
    status: Onboarding


class Health(Answer):
    status: Literal["ok"] = "ok"
