"""The one closed set of outcomes that are not success.

A service raises `CertwireError`, the bus carries it as a reply, and the gateway renders it in the
dialect of the caller. Texts for people belong to the dialects; `detail` is for those that print it.
"""

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from contracts.principal import Principal


class ErrorCode(StrEnum):
    """What went wrong, in words that every dialect can translate."""

    # The request itself
    INVALID_REQUEST = "invalid_request"
    INVALID_CSR = "invalid_csr"
    CSR_TOO_LARGE = "csr_too_large"
    AGAINST_POLICY = "against_policy"
    """Well-formed, but not what the CA or the profile allows."""
    INVALID_CERTIFICATE = "invalid_certificate"
    """A certificate of somebody else's making that cannot be used as it is meant to be."""
    # Who asks
    CREDENTIAL_MISSING = "credential_missing"
    CREDENTIAL_REFUSED = "credential_refused"
    IDENTITY_MISMATCH = "identity_mismatch"
    TOKEN_UNKNOWN = "token_unknown"
    TOKEN_USED = "token_used"
    TOKEN_EXPIRED = "token_expired"
    LOGIN_FAILED = "login_failed"
    FORBIDDEN = "forbidden"
    # What it is about
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    TOKEN_PENDING = "token_pending"
    CONFLICT = "conflict"
    INSTANCE_NOT_RUNNING = "instance_not_running"
    INVALID_TRANSITION = "invalid_transition"
    ALREADY_REVOKED = "already_revoked"
    OWNED_ELSEWHERE = "owned_elsewhere"
    GONE = "gone"
    CLAIM_VOIDED = "claim_voided"
    # Public CAs
    ORDER_FAILED = "order_failed"
    """No certificate: a challenge failed, the DNS provider or the CA refused."""
    CA_UNAVAILABLE = "ca_unavailable"
    """A public CA cannot be reached, or limits us; its order may go on."""
    # Idempotency-Key
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress"
    IDEMPOTENCY_SECRET_SHOWN = "idempotency_secret_shown"
    # Limits and the state of the platform
    RATE_LIMITED = "rate_limited"
    NOT_INITIALISED = "not_initialised"
    CA_CANNOT_SIGN = "ca_cannot_sign"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"
    INTERNAL = "internal"


class ErrorReply(BaseModel):
    """The form in which an error crosses the bus."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: ErrorCode
    detail: str = ""
    retry_after_seconds: int | None = None
    parameters: dict[str, str] = {}


class CertwireError(Exception):
    """An outcome other than success that the caller may be told about.

    `detail` may reach a client: it never names internals or secrets. `parameters` fill the
    dialect's own texts, for example the label that is taken. `actor` is who was refused, for the
    audit record; it does not cross the bus.
    """

    def __init__(
        self,
        code: ErrorCode,
        detail: str = "",
        *,
        retry_after_seconds: int | None = None,
        parameters: dict[str, str] | None = None,
        actor: Principal | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code: Final = code
        self.detail: Final = detail
        self.retry_after_seconds: Final = retry_after_seconds
        self.parameters: Final = parameters or {}
        self.actor: Final = actor

    def reply(self) -> ErrorReply:
        """Return what crosses the bus."""
        return ErrorReply(
            code=self.code,
            detail=self.detail,
            retry_after_seconds=self.retry_after_seconds,
            parameters=self.parameters,
        )

    @classmethod
    def from_reply(cls, reply: ErrorReply) -> "CertwireError":
        """Return the error that a service replied."""
        return cls(
            reply.code,
            reply.detail,
            retry_after_seconds=reply.retry_after_seconds,
            parameters=reply.parameters,
        )
