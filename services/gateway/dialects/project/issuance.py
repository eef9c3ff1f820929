"""Certificates of a public CA: what is asked for, tried first, obtained and renewed.

The answer waits for the order, which goes on in the acme service whether anybody waits or not.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    create_model,
    model_validator,
)

from contracts.acme import (
    ChallengeType,
    CheckIssuance,
    DnsAccess,
    Email,
    Issuance,
    KeyType,
    ObtainCertificate,
    Order,
    OrderKind,
    Preflight,
    PublicCertificate,
    RenewPublicCertificate,
)
from contracts.dns import CREDENTIALS, DnsProviderName
from contracts.errors import CertwireError, ErrorCode
from services.gateway.dialects.project.certificates import PATH, organization_of
from services.gateway.dialects.project.forms import (
    COMMON,
    Answer,
    Flag,
    Id,
    Moment,
    Sent,
    caller_of,
    group,
)
from services.gateway.exchange import Current
from services.gateway.orders import outcome
from services.gateway.refusals import Refusal

NO_CERTIFICATE: Final = "No certificate found"
DNS_NEEDED: Final = "dns-01 needs dnsProvider and dnsCredentials"
DNS_NEEDLESS: Final = "dnsProvider and dnsCredentials go with dns-01 alone"

_BY_PROVIDER: Final[Mapping[DnsProviderName, type[BaseModel]]] = {
    name: create_model(
        "Dns", __config__=ConfigDict(hide_input_in_errors=True), dnsCredentials=(model, ...)
    )
    for name, model in CREDENTIALS.items()
}
"""What is wrong with credentials is told where they stand in the body."""


def _host_in_lower_case(address: Any) -> Any:  # noqa: ANN401 - whatever was sent
    """Return an address whose host is as DNS compares it (RFC 4343)."""
    if not isinstance(address, str):
        return address
    name, at, host = address.rpartition("@")
    return name + at + (host.lower() if host.isascii() else host)


class NewIssuance(Sent):
    """How a certificate is obtained, now and at every renewal.

    `dns_credentials` are those of the provider, exactly: cloudflare and digitalocean `apiToken`;
    aws `accessKeyId`, `secretAccessKey` and `region`; godaddy `apiKey` and `apiSecret`; google
    `projectId` and `credentials`, the key file of a service account.
    """

    email: Annotated[Email, BeforeValidator(_host_in_lower_case)]
    challenge_type: ChallengeType
    dns_provider: DnsProviderName | None = None
    dns_credentials: Annotated[dict[str, JsonValue] | None, Field(repr=False)] = None
    auto_renew: Flag = True
    key_type: KeyType = KeyType.RSA
    key_size: Literal[2048, 4096] = 2048
    staging: Flag = False
    dry_run: Flag = False
    _dns: DnsAccess | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "NewIssuance":
        provider, credentials = self.dns_provider, self.dns_credentials
        if self.challenge_type is ChallengeType.HTTP_01:
            if provider is not None or credentials is not None:
                raise ValueError(DNS_NEEDLESS)
        elif provider is None or credentials is None:
            raise ValueError(DNS_NEEDED)
        else:
            self._dns = DnsAccess(provider=provider, credentials=_checked(provider, credentials))
        return self

    def sent_on(self) -> Issuance:
        """Return what the acme service takes."""
        return Issuance(
            email=self.email,
            challenge_type=self.challenge_type,
            dns=self._dns,
            key_type=self.key_type,
            key_size=self.key_size,
            auto_renew=self.auto_renew,
            staging=self.staging,
        )


def _checked(provider: DnsProviderName, credentials: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the credentials without what is not read of them. Raises ValidationError."""
    dns = _BY_PROVIDER[provider].model_validate(
        {"dnsCredentials": credentials}, by_alias=True, by_name=False
    )
    read: dict[str, JsonValue] = dns.model_dump(mode="json", exclude_none=True)["dnsCredentials"]
    return read


class IssuedView(Answer):
    domain: str
    issued_at: Moment
    expires_at: Moment
    issuer: str
    auto_renew: bool


class StagingIssuedView(IssuedView):
    staging: Literal[True] = True


class Obtained(Answer):
    """The certificate; a dry run keeps none, and may have none to show."""

    success: Literal[True] = True
    certificate: StagingIssuedView | IssuedView | None


class RenewedView(Answer):
    domain: str
    issued_at: Moment
    expires_at: Moment
    issuer: str
    renewed_from: Moment | None


class StagingRenewedView(RenewedView):
    staging: Literal[True] = True


class Renewed(Answer):
    """The new certificate; `renewed_from` is when the old one was issued."""

    success: Literal[True] = True
    certificate: StagingRenewedView | RenewedView


class CheckView(Answer):
    """A check; `reason` says in plain words what is wrong."""

    name: str
    ok: bool
    reason: str | None


class PreflightView(Answer):
    """Whether an order would succeed, as far as that can be known."""

    success: bool
    checks: list[CheckView]

    @classmethod
    def of(cls, preflight: Preflight) -> "PreflightView":
        """Return the checks as the dialect shows them."""
        checks = [CheckView(**check.model_dump()) for check in preflight.checks]
        return cls(success=all(check.ok for check in checks), checks=checks)


# --- Routes -------------------------------------------------------------------------------------

REFUSED: Final = {
    ErrorCode.NOT_FOUND: COMMON[ErrorCode.NOT_FOUND],
    ErrorCode.CONFLICT: COMMON[ErrorCode.CONFLICT],
    ErrorCode.AGAINST_POLICY: COMMON[ErrorCode.AGAINST_POLICY],
    ErrorCode.ORDER_FAILED: COMMON[ErrorCode.ORDER_FAILED],
    ErrorCode.CA_UNAVAILABLE: COMMON[ErrorCode.CA_UNAVAILABLE],
}
orders = group(
    PATH,
    "project-certificates",
    {
        **REFUSED,
        ErrorCode.OUTCOME_UNKNOWN: Refusal(
            HTTPStatus.GATEWAY_TIMEOUT,
            "Not done in time. The order goes on, if it was begun: the certificate's status and"
            " the orders show how it ends",
        ),
    },
)
router = group(PATH, "project-certificates", REFUSED)


@orders.post("/obtain")
async def obtain_certificate(project_id: Id, body: NewIssuance, exchange: Current) -> Obtained:
    """Obtain a certificate, or join the identical request that goes on."""
    actor, call = await caller_of(exchange)
    begun = await exchange.request(
        ObtainCertificate(
            call=call,
            actor=actor,
            project_id=project_id,
            issuance=body.sent_on(),
            dry_run=body.dry_run,
        )
    )
    order = await outcome(exchange, actor, begun)
    if order.kind is OrderKind.DRY_RUN and order.certificate is None:
        return Obtained(certificate=None)
    return Obtained(certificate=_issued(_certificate_of(order)))


@orders.post("/renew")
async def renew_certificate(project_id: Id, exchange: Current) -> Renewed:
    """Renew the certificate now, as it was obtained; or join the renewal that goes on."""
    actor, call = await caller_of(exchange)
    begun = await exchange.request(
        RenewPublicCertificate(call=call, actor=actor, project_id=project_id)
    )
    order = await outcome(exchange, actor, begun)
    certificate = _certificate_of(order)
    kind = StagingRenewedView if certificate.staging else RenewedView
    return Renewed(
        certificate=kind(
            domain=certificate.domain,
            issued_at=certificate.issued_at,
            expires_at=certificate.expires_at,
            issuer=organization_of(certificate),
            renewed_from=order.renewed_from,
        )
    )


@router.post("/preflight")
async def check_issuance(project_id: Id, body: NewIssuance, exchange: Current) -> PreflightView:
    """Try everything that an order needs, without one: no rate limit of a CA is used up."""
    exchange.wait_for_the_ca()
    actor, call = await caller_of(exchange)
    found = await exchange.request(
        CheckIssuance(call=call, actor=actor, project_id=project_id, issuance=body.sent_on())
    )
    return PreflightView.of(found)


def _certificate_of(order: Order) -> PublicCertificate:
    """Return what an order gave. Raises `NOT_FOUND` where that was removed meanwhile."""
    if order.certificate is None:
        raise CertwireError(ErrorCode.NOT_FOUND, NO_CERTIFICATE)
    return order.certificate


def _issued(certificate: PublicCertificate) -> IssuedView:
    kind = StagingIssuedView if certificate.staging else IssuedView
    return kind(
        domain=certificate.domain,
        issued_at=certificate.issued_at,
        expires_at=certificate.expires_at,
        issuer=organization_of(certificate),
        auto_renew=certificate.auto_renew,
    )
