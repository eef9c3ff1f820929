"""Orders: what may be ordered, how one is told from another, and what a failed one says."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final

from contracts.acme import ChallengeType, Issuance
from contracts.errors import CertwireError, ErrorCode
from contracts.principal import Principal

WILDCARD: Final = "*."
OWNERSHIP: Final = "Could not verify domain ownership"
"""The specification's words, whatever the CA's own are."""
PUT_OFF_SECONDS: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
"""How long an order that was begun waits for a CA that is away, and from then on."""
TRIES_BEFORE_BEGUN: Final = 3
"""As often is a CA asked for an order before its being away is what the order ends with."""


class OrderFailedError(Exception):
    """The order gives no certificate: `text` for the caller, `reason` in the CA's own words."""

    def __init__(
        self,
        text: str,
        reason: str = "",
        *,
        code: ErrorCode = ErrorCode.ORDER_FAILED,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(text)
        self.text: Final = text
        self.reason: Final = reason
        self.code: Final = code
        self.retry_after_seconds: Final = retry_after_seconds

    @property
    def in_full(self) -> str:
        """Return both texts in one line, for whoever looks for the cause."""
        if not self.reason or self.reason in self.text:
            return self.text
        return f"{self.text} ({self.reason})"

    def error(self) -> CertwireError:
        """Return what the caller gets."""
        return CertwireError(
            self.code,
            self.text,
            retry_after_seconds=self.retry_after_seconds,
            parameters={"reason": self.in_full},
        )


def names_of(domain: str) -> tuple[str, ...]:
    """Return the names of the certificate: a wildcard's has the name that it stands below, too."""
    return (domain, domain.removeprefix(WILDCARD)) if domain.startswith(WILDCARD) else (domain,)


def require_orderable(domain: str | None, issuance: Issuance, actor: Principal) -> str:
    """Return the domain. Raises `AGAINST_POLICY` without one, and where http-01 can't prove it."""
    if domain is None:
        raise CertwireError(
            ErrorCode.AGAINST_POLICY, "Project has no domain configured", actor=actor
        )
    if domain.startswith(WILDCARD) and issuance.challenge_type is ChallengeType.HTTP_01:
        raise CertwireError(
            ErrorCode.AGAINST_POLICY, "Wildcard domains need the dns-01 challenge", actor=actor
        )
    return domain


def request_hash(kind: str, domain: str, directory: str, issuance: Issuance | None) -> str:
    """Return by what an identical request is known, the credentials aside: SHA-256 in hex.

    A hash of secrets would tell a guess from the truth.
    """
    asked = [kind, domain, directory, without_credentials(issuance)[0] if issuance else None]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def challenge_failed(challenge: ChallengeType, reason: str) -> OrderFailedError:
    """Return the failure of a challenge, in the specification's words."""
    if challenge is ChallengeType.HTTP_01:
        return OrderFailedError(f"HTTP-01 challenge failed: {OWNERSHIP}", reason)
    return OrderFailedError(f"DNS-01 challenge failed: {reason or OWNERSHIP}", reason)


def is_about_name(domain: str, said: str) -> bool:
    """Return whether a CA's words name the domain, or one above it, and so are not about the CA.

    Let's Encrypt names what a limit is about, save for a limit of the exact set of names.
    """
    labels = domain.removeprefix(WILDCARD).split(".")
    names = "|".join(re.escape(".".join(labels[at:])) for at in range(len(labels) - 1))
    pattern = rf"(?<![\w.-])(?:{names})(?![\w-]|\.\w)|\bexact set of\b"
    return re.search(pattern, said, re.IGNORECASE) is not None


def put_off_seconds(attempts: int, retry_after_seconds: int | None) -> float:
    """Return how long an order waits after so many attempts, at least as long as the CA says."""
    own = PUT_OFF_SECONDS[min(attempts, len(PUT_OFF_SECONDS) - 1)]
    return max(own, float(retry_after_seconds or 0))


def without_credentials(issuance: Issuance) -> tuple[str, bytes | None]:
    """Return how a certificate is obtained as JSON, and apart from it what has to be sealed."""
    if issuance.dns is None:
        return issuance.model_dump_json(), None
    open_part = issuance.model_dump(mode="json", exclude={"dns"})
    open_part["provider"] = issuance.dns.provider
    return json.dumps(open_part), json.dumps(issuance.dns.credentials).encode()


def with_credentials(text: str, credentials: bytes | None) -> Issuance:
    """Return what `without_credentials` took apart."""
    fields: Mapping[str, object] = json.loads(text)
    provider = fields.get("provider")
    rest = {name: value for name, value in fields.items() if name not in {"provider", "dns"}}
    if credentials is None:
        return Issuance.model_validate(rest)
    dns = {"provider": provider, "credentials": json.loads(credentials)}
    return Issuance.model_validate({**rest, "dns": dns})
