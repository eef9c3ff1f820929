"""The portlama dialect: the administrator, agents, their enrolment, and certificates at a glance.

The order of checks: the platform is set up (503), a client certificate is there (403), path and
body (400), everything else in the registry.
"""

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import ValidationError

from contracts.acme import (
    RELOAD_FAILED,
    DomainCertificate,
    GetRenewalSchedule,
    ListDomainCertificates,
    OrderState,
    RenewDomain,
)
from contracts.agents import (
    Agent,
    AuthorizeAgent,
    CancelEnrollmentToken,
    Capability,
    CreateAgent,
    CreateEnrollmentToken,
    DownloadAdminBundle,
    DownloadAgentBundle,
    EnrollAgent,
    GetAuthMode,
    GetMtlsCertificates,
    GetOwnAgent,
    Label,
    LabelCommand,
    ListAgents,
    Onboarding,
    RenewAgent,
    RevokeAgent,
    RotateAdmin,
    SetAllowedSites,
    SetCapabilities,
    UpgradeAdmin,
)
from contracts.errors import CertwireError, ErrorCode
from contracts.instance import ResolveInstance
from contracts.messages import PAGE_LIMIT, Call, Message
from contracts.principal import Credential, CredentialKind, Principal, PrincipalKind
from services.gateway.dialects.dialect import Dialect
from services.gateway.dialects.portlama_models import (
    AgentCreated,
    AgentList,
    AgentListPage,
    AgentView,
    AuthModeView,
    AutoRenewStatus,
    CertificateList,
    ChangedCapabilities,
    ChangedSites,
    EnrolledAgent,
    Enrolment,
    Failure,
    Health,
    Invalid,
    Labelled,
    NewAgent,
    NewCapabilities,
    NewCsr,
    NewSites,
    NewToken,
    OnboardingView,
    OwnAgent,
    RenewedDomain,
    RenewedDomainWithWarning,
    Rotated,
    Upgraded,
    is_site,
)
from services.gateway.exchange import Caller, Current, Exchange, exchange_of
from services.gateway.orders import outcome
from services.gateway.refusals import PLATFORM_TROUBLE, REFUSALS, Refusal, Refusals, described
from services.gateway.routes import CERTIFICATE, PUBLIC, DialectRoute
from services.gateway.shapes import PortlamaShape
from shared.clock import utc_now
from shared.secrets import token_hash

LOG: Final = logging.getLogger(__name__)

PREFIXES: Final = ("/api/certs", "/api/enroll", "/api/onboarding", "/api/health")
CSR_LIMIT_BYTES: Final = 8192
"""The specification's number."""
LIST_LIMIT: Final = 10_000
"""As many agents as are listed at once (the rulings' number)."""
PAGE_DEFAULT: Final = 100
NOT_IN_TIME: Final = "The CA did not issue a certificate in time; the order goes on"
DOMAIN: Final = r"^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"
"""The specification's."""

Domain = Annotated[str, Path(pattern=DOMAIN, max_length=253)]
AgentLabel = Annotated[Label, Path()]
Format = Annotated[Literal["legacy"] | None, Query()]
"""`legacy`: 3DES and SHA-1, for keychains that import nothing newer."""
Once = Annotated[list[str], Query(min_length=1, max_length=1)]
AtMostOnce = Annotated[list[str] | None, Query(max_length=1)]
"""Query parameters of two values are refused: two readers could each believe another one."""
Limit = Annotated[int | None, Query(ge=1, le=PAGE_LIMIT)]
Cursor = Annotated[str | None, Query(max_length=512)]
ReplyT = TypeVar("ReplyT", bound=Message)
T = TypeVar("T")


# --- Routes, and what they refuse ---------------------------------------------------------------


def _gone(what: str) -> Refusal:
    return Refusal(
        HTTPStatus.GONE,
        f"P12 certificate {what} is disabled. Admin uses hardware-bound authentication."
        " Use portlama-reset-admin on the server to revert.",
    )


def _unable(text: str) -> dict[ErrorCode, Refusal]:
    """Return the 500 that the specification has for an endpoint."""
    refusal = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, text)
    return {ErrorCode.CA_CANNOT_SIGN: refusal, ErrorCode.INTERNAL: refusal}


_EXISTS: Final = Refusal(
    HTTPStatus.CONFLICT, 'Agent certificate with label "$label" already exists'
)
_NO_AGENT: Final = Refusal(HTTPStatus.NOT_FOUND, 'Agent certificate "$label" not found')
_NO_SCOPE: Final = Refusal(HTTPStatus.FORBIDDEN, "Insufficient certificate scope")
_INVALID_CSR: Final = Refusal(
    HTTPStatus.BAD_REQUEST, "Invalid CSR: structure or signature verification failed"
)

COMMON: Final[Refusals] = {
    **REFUSALS,
    ErrorCode.CREDENTIAL_MISSING: Refusal(HTTPStatus.FORBIDDEN, "mTLS certificate required"),
    ErrorCode.CREDENTIAL_REFUSED: Refusal(HTTPStatus.FORBIDDEN, "Certificate is not accepted"),
    ErrorCode.FORBIDDEN: _NO_SCOPE,
    ErrorCode.INVALID_CSR: _INVALID_CSR,
    ErrorCode.NOT_INITIALISED: Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE, "Onboarding is not completed"
    ),
}


class PortlamaRoute(DialectRoute):
    """A route that says whom it admits before path and body are read."""

    refusals: ClassVar[Refusals] = COMMON
    security = (CERTIFICATE,)
    public: ClassVar[bool] = False
    before_completion: ClassVar[bool] = False

    def get_route_handler(self) -> Any:  # noqa: ANN401 - FastAPI's own
        """Return FastAPI's handler behind our gate."""
        handle = super().get_route_handler()

        async def handle_admitted(request: Request) -> Any:  # noqa: ANN401 - FastAPI's own
            await self._admit(exchange_of(request))
            return await handle(request)

        return handle_admitted

    async def _admit(self, exchange: Exchange) -> None:
        """Raise `NOT_INITIALISED` until the platform is set up, then `CREDENTIAL_MISSING`."""
        status = await exchange.onboarding()
        if status is not Onboarding.COMPLETED and not self.before_completion:
            raise CertwireError(ErrorCode.NOT_INITIALISED, parameters={"status": status})
        if exchange.peer is None and not self.public:
            raise CertwireError(ErrorCode.CREDENTIAL_MISSING)


def _routes(
    tag: str, refusals: Refusals, *, is_public: bool = False, is_early: bool = False
) -> APIRouter:
    """Return a router whose routes have refusals of their own.

    Public ones ask for no certificate, early ones answer before onboarding is completed.
    """
    worded = {**COMMON, **refusals}

    class OwnRoute(PortlamaRoute):
        refusals: ClassVar[Refusals] = worded
        public = is_public
        before_completion = is_early

    codes = (*(() if is_public else _WITHOUT_CERTIFICATE), *refusals)
    return APIRouter(
        route_class=OwnRoute,
        tags=[tag],
        responses={
            int(HTTPStatus.BAD_REQUEST): {"model": Invalid, "description": "Validation failed"},
            **described(worded, codes, Failure),
        },
    )


_WITHOUT_CERTIFICATE: Final = (
    ErrorCode.CREDENTIAL_MISSING,
    ErrorCode.CREDENTIAL_REFUSED,
    ErrorCode.FORBIDDEN,
)


class Certified(NamedTuple):
    """The certificate that a command is sent with, and the command's circumstances."""

    credential: Credential | None
    call: Call


async def _certified(exchange: Exchange) -> Certified:
    credential = await exchange.certificate()
    return Certified(credential, exchange.call(credential.sha256 if credential else None))


async def _about(exchange: Exchange, command: LabelCommand[ReplyT]) -> ReplyT:
    """Send a command about a label, which its refusals name."""
    try:
        return await exchange.request(command)
    except CertwireError as error:
        error.parameters.setdefault("label", command.label)
        raise


def _check_size(csr_pem: str) -> None:
    if len(csr_pem.encode()) > CSR_LIMIT_BYTES:
        raise CertwireError(ErrorCode.CSR_TOO_LARGE)


class Pkcs12Response(Response):
    """A file to import into a keychain."""

    media_type = "application/x-pkcs12"

    @classmethod
    def of(cls, pkcs12: bytes, name: str) -> "Pkcs12Response":
        disposition = f'attachment; filename="{name}.p12"'
        return cls(pkcs12, headers={"Content-Disposition": disposition})


_PKCS12: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {Pkcs12Response.media_type: {}}, "description": "A PKCS#12 file"}
}


# --- Certificates at a glance -------------------------------------------------------------------

_NO_DOMAIN: Final = Refusal(HTTPStatus.NOT_FOUND, "Certificate not found")
_NOT_RENEWED: Final = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Certificate renewal failed")

overview = _routes("certificates", {})
renewal = _routes(
    "certificates",
    {
        ErrorCode.NOT_FOUND: _NO_DOMAIN,
        ErrorCode.AGAINST_POLICY: _NO_DOMAIN,  # uploaded: nobody here can renew it
        ErrorCode.CONFLICT: COMMON[ErrorCode.CONFLICT],
        ErrorCode.ORDER_FAILED: _NOT_RENEWED,
        ErrorCode.CA_UNAVAILABLE: _NOT_RENEWED,
    },
)


@overview.get("/api/certs")
async def list_certificates(exchange: Current) -> CertificateList:
    """List the platform's certificates, those that end first in front.

    While one of the two who know them is away, those of the other come alone.
    """
    credential = await exchange.certificate()
    admin, call = await _administrator(exchange)
    mtls, domains = await asyncio.gather(
        _unless_away(exchange.request(GetMtlsCertificates(call=call, credential=credential))),
        _unless_away(_domain_certificates(exchange, admin, call)),
    )
    if isinstance(mtls, CertwireError) and isinstance(domains, CertwireError):
        raise mtls
    return CertificateList.of(
        None if isinstance(mtls, CertwireError) else mtls,
        [] if isinstance(domains, CertwireError) else domains,
        utc_now(),
    )


@overview.get("/api/certs/auto-renew-status")
async def get_auto_renew_status(exchange: Current) -> AutoRenewStatus:
    """Say when certificates of domains are renewed; what cannot be found out is not active."""
    admin, call = await _administrator(exchange)
    schedule = await _unless_away(exchange.request(GetRenewalSchedule(call=call, actor=admin)))
    if isinstance(schedule, CertwireError):
        return AutoRenewStatus(active=False, next_run=None, last_run=None)
    return AutoRenewStatus(**schedule.model_dump())


@renewal.post("/api/certs/{domain}/renew")
async def renew_domain(
    domain: Domain, exchange: Current
) -> RenewedDomainWithWarning | RenewedDomain:
    """Renew the certificate of a domain now."""
    admin, call = await _administrator(exchange)
    try:
        command = RenewDomain(call=call, actor=admin, domain=domain)
    except ValidationError:  # an IPv4 address, say, which the specification's pattern lets through
        raise CertwireError(ErrorCode.NOT_FOUND) from None
    try:
        begun = await exchange.request(command)
        order = await outcome(exchange, admin, begun)
    except CertwireError as error:
        if error.code is ErrorCode.OUTCOME_UNKNOWN:
            raise CertwireError(ErrorCode.ORDER_FAILED, NOT_IN_TIME) from None
        raise
    expiry = order.certificate.expires_at if order.certificate else None
    # To whoever waited for it, a reload that has not come to an end in time has failed.
    warning = order.warning if order.state is not OrderState.PENDING else RELOAD_FAILED
    if warning is not None:
        return RenewedDomainWithWarning(domain=domain, new_expiry=expiry, warning=warning)
    return RenewedDomain(domain=domain, new_expiry=expiry)


async def _unless_away(asked: Awaitable[T]) -> T | CertwireError:
    """Return the answer, or the error where the one who is asked cannot give it now."""
    try:
        return await asked
    except CertwireError as error:
        if error.code not in PLATFORM_TROUBLE:
            raise
        LOG.warning("a source of certificates is away", extra={"problem": str(error)})
        return error


async def _domain_certificates(
    exchange: Exchange, admin: Principal, call: Call
) -> list[DomainCertificate]:
    """Return the certificates of domains, page by page, up to as many as are listed."""
    found: list[DomainCertificate] = []
    cursor = None
    while len(found) < LIST_LIMIT:
        size = min(PAGE_LIMIT, LIST_LIMIT - len(found))
        page = await exchange.request(
            ListDomainCertificates(call=call, actor=admin, limit=size, cursor=cursor)
        )
        found += page.certificates
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


async def _administrator(exchange: Exchange) -> Caller:
    """Return the administrator that calls. Raises `FORBIDDEN` for anybody else."""
    caller = await _holder(exchange)
    if caller.principal.kind is not PrincipalKind.ADMIN:
        raise CertwireError(ErrorCode.FORBIDDEN)
    return caller


async def _holder(exchange: Exchange) -> Caller:
    """Return the administrator or agent that calls. Raises as the registry's commands do."""
    try:
        return await exchange.caller(CredentialKind.CERTIFICATE)
    except CertwireError as error:
        nobodys = error.code is ErrorCode.FORBIDDEN
        raise CertwireError(ErrorCode.CREDENTIAL_REFUSED) if nobodys else error from None


# --- The administrator's certificate ------------------------------------------------------------

rotation = _routes(
    "certificates",
    {
        ErrorCode.GONE: _gone("rotation"),
        ErrorCode.INTERNAL: Refusal(
            HTTPStatus.INTERNAL_SERVER_ERROR, "mTLS rotation failed: internal error"
        ),
        ErrorCode.CA_CANNOT_SIGN: Refusal(
            HTTPStatus.INTERNAL_SERVER_ERROR, "CA key not found — cannot sign new certificate"
        ),
    },
)
admin_download = _routes(
    "certificates",
    {
        ErrorCode.GONE: _gone("download"),
        ErrorCode.NOT_FOUND: Refusal(HTTPStatus.NOT_FOUND, "No client certificate found"),
        **_unable("Failed to download certificate"),
    },
)
upgrade = _routes(
    "certificates",
    {
        ErrorCode.CSR_TOO_LARGE: COMMON[ErrorCode.CSR_TOO_LARGE],
        ErrorCode.INVALID_CSR: _INVALID_CSR,
        ErrorCode.CONFLICT: Refusal(
            HTTPStatus.CONFLICT, "Admin is already using hardware-bound authentication"
        ),
        **_unable("Admin upgrade failed"),
    },
)


@rotation.post("/api/certs/mtls/rotate")
async def rotate_admin(exchange: Current) -> Rotated:
    """Make a new key and certificate of the administrator; the old one is revoked by it."""
    credential, call = await _certified(exchange)
    rotated = await exchange.request(RotateAdmin(call=call, credential=credential))
    return Rotated(p12_password=rotated.p12_password, expires_at=rotated.expires_at)


@admin_download.get("/api/certs/mtls/download", response_class=Pkcs12Response, responses=_PKCS12)
async def download_admin(
    exchange: Current, file_format: Annotated[Format, Query(alias="format")] = None
) -> Pkcs12Response:
    """Download the administrator's certificate with its key."""
    credential, call = await _certified(exchange)
    bundle = await exchange.request(
        DownloadAdminBundle(call=call, credential=credential, legacy=file_format == "legacy")
    )
    return Pkcs12Response.of(bundle.pkcs12, "client")


@upgrade.post("/api/certs/admin/upgrade-to-hardware-bound")
async def upgrade_admin(body: NewCsr, exchange: Current) -> Upgraded:
    """Sign a key that the administrator keeps; the PKCS#12 certificate is revoked by it."""
    _check_size(body.csr)
    credential, call = await _certified(exchange)
    return Upgraded.of(
        await exchange.request(UpgradeAdmin(call=call, credential=credential, csr_pem=body.csr))
    )


@upgrade.get("/api/certs/admin/auth-mode")
async def get_auth_mode(exchange: Current) -> AuthModeView:
    """Say how the administrator holds the key."""
    credential, call = await _certified(exchange)
    found = await exchange.request(GetAuthMode(call=call, credential=credential))
    return AuthModeView(admin_auth_mode=found.mode)


# --- Agents, for the administrator --------------------------------------------------------------

creation = _routes(
    "agents",
    {
        ErrorCode.ALREADY_EXISTS: _EXISTS,
        ErrorCode.INTERNAL: Refusal(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "Agent certificate generation failed: internal error",
        ),
        ErrorCode.CA_CANNOT_SIGN: Refusal(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "Agent certificate generation failed: the CA cannot sign",
        ),
    },
)
agents = _routes("agents", {ErrorCode.NOT_FOUND: _NO_AGENT})


@creation.post("/api/certs/agent")
async def create_agent(body: NewAgent, exchange: Current) -> AgentCreated:
    """Make an agent with key and certificate. The password of its file is shown once."""
    credential, call = await _certified(exchange)
    return AgentCreated.of(
        await _about(
            exchange,
            CreateAgent(
                call=call,
                credential=credential,
                label=body.label,
                capabilities=body.capabilities,
                allowed_sites=body.allowed_sites,
            ),
        )
    )


@agents.get("/api/certs/agent")
async def list_agents(
    exchange: Current, limit: Limit = None, cursor: Cursor = None
) -> AgentListPage | AgentList:
    """List agents in the order of their creation; without parameters all, up to 10,000."""
    now = utc_now()
    if limit is not None or cursor is not None:
        found, following = await _agents(exchange, limit or PAGE_DEFAULT, cursor)
    else:
        found, following = await _agents(exchange, LIST_LIMIT, None)
    views = [AgentView.of(agent, now) for agent in found]
    if limit is None and cursor is None and following is None:
        return AgentList(agents=views)
    return AgentListPage(agents=views, next_cursor=following)


async def _agents(
    exchange: Exchange, limit: int, cursor: str | None
) -> tuple[list[Agent], str | None]:
    """Return `limit` agents after the cursor and the cursor after them, page by page."""
    credential, call = await _certified(exchange)
    found: list[Agent] = []
    while True:
        size = min(PAGE_LIMIT, limit - len(found))
        page = await exchange.request(
            ListAgents(call=call, credential=credential, limit=size, cursor=cursor)
        )
        found += page.agents
        cursor = page.next_cursor
        if cursor is None or len(found) >= limit:
            return found, cursor


@agents.get("/api/certs/agent/{label}/download", response_class=Pkcs12Response, responses=_PKCS12)
async def download_agent(
    label: AgentLabel,
    exchange: Current,
    file_format: Annotated[Format, Query(alias="format")] = None,
) -> Pkcs12Response:
    """Download an agent's certificate with its key."""
    credential, call = await _certified(exchange)
    bundle = await _about(
        exchange,
        DownloadAgentBundle(
            call=call, credential=credential, label=label, legacy=file_format == "legacy"
        ),
    )
    return Pkcs12Response.of(bundle.pkcs12, label)


@agents.patch("/api/certs/agent/{label}/capabilities")
async def set_capabilities(
    label: AgentLabel, body: NewCapabilities, exchange: Current
) -> ChangedCapabilities:
    """Change what an agent may do, from its next request on."""
    credential, call = await _certified(exchange)
    agent = await _about(
        exchange,
        SetCapabilities(
            call=call, credential=credential, label=label, capabilities=body.capabilities
        ),
    )
    return ChangedCapabilities(label=agent.label, capabilities=agent.capabilities)


@agents.patch("/api/certs/agent/{label}/allowed-sites")
async def set_allowed_sites(label: AgentLabel, body: NewSites, exchange: Current) -> ChangedSites:
    """Change the sites of an agent, from its next request on."""
    credential, call = await _certified(exchange)
    agent = await _about(
        exchange,
        SetAllowedSites(
            call=call, credential=credential, label=label, allowed_sites=body.allowed_sites
        ),
    )
    return ChangedSites(label=agent.label, allowed_sites=agent.allowed_sites)


@agents.delete("/api/certs/agent/{label}")
async def revoke_agent(label: AgentLabel, exchange: Current) -> Labelled:
    """Revoke an agent's certificate."""
    credential, call = await _certified(exchange)
    await _about(exchange, RevokeAgent(call=call, credential=credential, label=label))
    return Labelled(label=label)


# --- Enrolment ----------------------------------------------------------------------------------

_ENROLMENT: Final = {
    ErrorCode.CSR_TOO_LARGE: COMMON[ErrorCode.CSR_TOO_LARGE],
    ErrorCode.INVALID_CSR: _INVALID_CSR,
    **_unable("Enrollment failed"),
}
tokens = _routes(
    "enrolment",
    {
        ErrorCode.ALREADY_EXISTS: _EXISTS,
        ErrorCode.TOKEN_PENDING: Refusal(
            HTTPStatus.CONFLICT, 'An active enrollment token for label "$label" already exists'
        ),
        ErrorCode.NOT_FOUND: Refusal(
            HTTPStatus.NOT_FOUND, 'No active enrollment token for label "$label"'
        ),
    },
)
enrolment = _routes(
    "enrolment",
    {
        **_ENROLMENT,
        ErrorCode.TOKEN_UNKNOWN: Refusal(HTTPStatus.UNAUTHORIZED, "Invalid enrollment token"),
        ErrorCode.TOKEN_USED: Refusal(
            HTTPStatus.UNAUTHORIZED, "Enrollment token has already been used"
        ),
        ErrorCode.TOKEN_EXPIRED: Refusal(HTTPStatus.UNAUTHORIZED, "Enrollment token has expired"),
        ErrorCode.ALREADY_EXISTS: _EXISTS,
    },
    is_public=True,
)


@tokens.post("/api/certs/agent/enroll")
async def create_token(body: NewAgent, exchange: Current) -> NewToken:
    """Make a token with which an agent enrols once, within 10 minutes. It is shown once."""
    credential, call = await _certified(exchange)
    return NewToken.of(
        await _about(
            exchange,
            CreateEnrollmentToken(
                call=call,
                credential=credential,
                label=body.label,
                capabilities=body.capabilities,
                allowed_sites=body.allowed_sites,
            ),
        )
    )


@tokens.delete("/api/certs/agent/enroll/{label}")
async def cancel_token(label: AgentLabel, exchange: Current) -> Labelled:
    """Cancel a pending token."""
    credential, call = await _certified(exchange)
    await _about(exchange, CancelEnrollmentToken(call=call, credential=credential, label=label))
    return Labelled(label=label)


@enrolment.post("/api/enroll", openapi_extra=PUBLIC)
async def enroll_agent(body: Enrolment, exchange: Current) -> EnrolledAgent:
    """Exchange a token for the certificate of a key that the agent keeps."""
    _check_size(body.csr)
    call = exchange.call(token_hash(body.token))
    return EnrolledAgent.of(
        await exchange.request(EnrollAgent(call=call, token=body.token, csr_pem=body.csr))
    )


# --- What agents ask for themselves -------------------------------------------------------------

own = _routes("agents", _ENROLMENT)


@own.get("/api/certs/agent/me")
async def get_own_agent(exchange: Current) -> OwnAgent:
    """Show the calling agent to itself."""
    credential, call = await _certified(exchange)
    return OwnAgent.of(await exchange.request(GetOwnAgent(call=call, credential=credential)))


@own.get("/api/certs/agent/authorize", status_code=HTTPStatus.NO_CONTENT)
async def authorize_agent(exchange: Current, capability: Once, site: AtMostOnce = None) -> None:
    """Say whether the calling agent has a capability and, where one is named, a site.

    Made for `auth_request` of nginx, whose certificate may stand for the agent's where it is one
    of the trusted proxies.
    """
    credential = await exchange.forwarded_certificate()
    if capability[0] not in _CAPABILITIES or not all(map(is_site, site or ())):
        raise CertwireError(ErrorCode.FORBIDDEN)  # nobody has it
    await exchange.request(
        AuthorizeAgent(
            call=exchange.call(),
            credential=credential,
            capability=capability[0],
            site=site[0] if site else None,
        )
    )


_CAPABILITIES: Final = frozenset(Capability)


@own.post("/api/certs/agent/renew")
async def renew_agent(body: NewCsr, exchange: Current) -> EnrolledAgent:
    """Sign a new key of the calling agent; the old certificate ends when the new one is used."""
    _check_size(body.csr)
    credential, call = await _certified(exchange)
    return EnrolledAgent.of(
        await exchange.request(RenewAgent(call=call, credential=credential, csr_pem=body.csr))
    )


# --- The platform -------------------------------------------------------------------------------

state = _routes("platform", {}, is_early=True)


@state.get("/api/onboarding/status")
async def get_onboarding_status(exchange: Current) -> OnboardingView:
    """Say whether the platform is set up, to any of its certificates."""
    await _require_ours(exchange)
    return OnboardingView(status=await exchange.onboarding())


@state.get("/api/health")
async def get_health(exchange: Current) -> Health:
    """Answer any of the platform's certificates."""
    await _require_ours(exchange)
    return Health()


async def _require_ours(exchange: Exchange) -> None:
    """Raise `CREDENTIAL_REFUSED` for a certificate that is nobody's: no instance's either."""
    credential = await exchange.certificate()
    if credential is not None:
        with suppress(CertwireError):  # the registry may know it where that service is away
            asked = ResolveInstance(call=exchange.call(), credential=credential)
            if (await exchange.request(asked)).principal is not None:
                return
    await _holder(exchange)


PORTLAMA: Final = Dialect(
    "portlama",
    PREFIXES,
    PortlamaShape(),
    # Static paths come before those with a name in the same place.
    (
        *rotation.routes,
        *admin_download.routes,
        *upgrade.routes,
        *creation.routes,
        *tokens.routes,
        *own.routes,
        *agents.routes,
        *enrolment.routes,
        *overview.routes,
        *renewal.routes,
        *state.routes,
    ),
)
