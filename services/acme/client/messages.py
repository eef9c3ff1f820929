"""What a CA says (RFC 8555 section 7.1, RFC 9773, draft-ietf-acme-profiles), read strictly."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from services.acme.client.documents import Document, boolean, list_of, members, moment, one_of, text
from services.acme.client.problems import (
    NAME_LIMIT,
    CaMisbehaves,
    Problem,
    plain,
    read_problem,
)

AUTHORIZATIONS_LIMIT: Final = 100
"""Of one order: as many names as CAs allow in a certificate."""
CHALLENGES_LIMIT: Final = 20
"""Of one authorisation; CAs offer up to four types."""
PROFILES_LIMIT: Final = 50
CAA_IDENTITIES_LIMIT: Final = 50

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
"""RFC 8555 section 8.1: base64url, at least 128 bits; it becomes part of a path."""
_NAME: Final = re.compile(r"[!-~]{1,64}")
"""A challenge's type or a profile's name."""
_DNS_NAME: Final = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
WITH_TOKEN: Final = frozenset({"http-01", "dns-01"})


class OrderStatus(StrEnum):
    """RFC 8555 section 7.1.6."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


class AuthorizationStatus(StrEnum):
    """RFC 8555 section 7.1.6."""

    PENDING = "pending"
    VALID = "valid"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ChallengeStatus(StrEnum):
    """RFC 8555 section 7.1.6."""

    PENDING = "pending"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a CA: its key, and the URL that is its name there."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    url: str


@dataclass(frozen=True, slots=True)
class Directory:
    """The services of a CA; those that it does not have are None.

    `profiles` are descriptions by name. Website and terms are to be shown, never to be asked.
    """

    new_nonce: str
    new_account: str
    new_order: str
    revoke_certificate: str | None
    key_change: str | None
    renewal_info: str | None
    profiles: Mapping[str, str]
    external_account_required: bool
    terms_of_service: str | None
    website: str | None
    caa_identities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the CA has it. `identifiers` are DNS names in lower case.

    `url` is empty where it answers a `finalize` and does not say it again. `certificate` is there
    once it is valid, `error` where it is invalid and the CA says why.
    """

    url: str
    status: OrderStatus
    expires: datetime | None
    identifiers: tuple[str, ...]
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str | None
    error: Problem | None
    retry_after_seconds: int | None
    replaces: str | None
    profile: str | None


@dataclass(frozen=True, slots=True)
class Challenge:
    """A way to show control of a name. The token of http-01 and dns-01 is always there."""

    type: str
    url: str
    status: ChallengeStatus
    token: str | None
    error: Problem | None


@dataclass(frozen=True, slots=True)
class Authorization:
    """Whether the account controls a name: `identifier`, without the label of a wildcard."""

    identifier: str
    wildcard: bool
    status: AuthorizationStatus
    expires: datetime | None
    challenges: tuple[Challenge, ...]
    retry_after_seconds: int | None


@dataclass(frozen=True, slots=True)
class RenewalInfo:
    """When to renew (RFC 9773 section 4.2), and after how many seconds to ask again."""

    start: datetime
    end: datetime
    explanation_url: str | None
    retry_after_seconds: int


def read_directory(document: Document) -> Directory:
    """Read a directory (RFC 8555 section 7.1.1). Raises CaMisbehaves."""
    meta = document.within("directory's metadata", document.optional("meta", members) or {})
    return Directory(
        new_nonce=document.url("newNonce"),
        new_account=document.url("newAccount"),
        new_order=document.url("newOrder"),
        revoke_certificate=document.optional_url("revokeCert"),
        key_change=document.optional_url("keyChange"),
        renewal_info=document.optional_url("renewalInfo"),
        profiles=meta.optional("profiles", _profiles) or {},
        external_account_required=meta.optional("externalAccountRequired", boolean) or False,
        terms_of_service=meta.optional("termsOfService", _shown),
        website=meta.optional("website", _shown),
        caa_identities=meta.optional("caaIdentities", list_of(_shown, CAA_IDENTITIES_LIMIT)) or (),
    )


def read_order(document: Document, url: str, retry_after_seconds: int | None) -> Order:
    """Read an order (RFC 8555 section 7.1.3). Raises CaMisbehaves."""
    urls = list_of(document.origin.checked, AUTHORIZATIONS_LIMIT)
    order = Order(
        url=url,
        status=document.needed("status", one_of(OrderStatus)),
        expires=document.optional("expires", moment),
        identifiers=document.needed("identifiers", list_of(_dns_identifier, AUTHORIZATIONS_LIMIT)),
        authorizations=document.needed("authorizations", urls),
        finalize=document.url("finalize"),
        certificate=document.optional_url("certificate"),
        error=document.optional("error", read_problem),
        retry_after_seconds=retry_after_seconds,
        replaces=document.optional("replaces", _shown),
        profile=document.optional("profile", _name),
    )
    if order.status is OrderStatus.VALID and order.certificate is None:
        raise CaMisbehaves("the order is valid and has no 'certificate'")
    return order


def read_authorization(document: Document, retry_after_seconds: int | None) -> Authorization:
    """Read an authorisation (RFC 8555 section 7.1.4). Raises CaMisbehaves."""

    def challenge(value: object) -> Challenge:
        return read_challenge(document.within("challenge", value))

    return Authorization(
        identifier=document.needed("identifier", _dns_identifier),
        wildcard=document.optional("wildcard", boolean) or False,
        status=document.needed("status", one_of(AuthorizationStatus)),
        expires=document.optional("expires", moment),
        challenges=document.needed("challenges", list_of(challenge, CHALLENGES_LIMIT)),
        retry_after_seconds=retry_after_seconds,
    )


def read_challenge(document: Document) -> Challenge:
    """Read a challenge (RFC 8555 section 8). Raises CaMisbehaves."""
    kind = document.needed("type", _name)
    return Challenge(
        type=kind,
        url=document.url("url"),
        status=document.needed("status", one_of(ChallengeStatus)),
        token=document.needed("token", _token) if kind in WITH_TOKEN else None,
        error=document.optional("error", read_problem),
    )


def read_renewal_info(document: Document, retry_after_seconds: int) -> RenewalInfo:
    """Read when to renew (RFC 9773 section 4.2). Raises CaMisbehaves."""
    window = document.within("suggested window", document.needed("suggestedWindow", members))
    start, end = window.needed("start", moment), window.needed("end", moment)
    if end <= start:
        raise CaMisbehaves("the suggested window ends before it starts")
    return RenewalInfo(start, end, document.optional("explanationURL", _shown), retry_after_seconds)


def _dns_identifier(value: object) -> str:
    """Read an identifier of type dns; return the name in lower case."""
    identifier = members(value)
    name = identifier.get("value")
    if identifier.get("type") != "dns" or not isinstance(name, str) or len(name) > NAME_LIMIT:
        raise ValueError("not a DNS identifier")
    if not _DNS_NAME.fullmatch(name):
        raise ValueError("not a DNS name")
    return name.lower()


def _token(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("not base64url of 16 to 128 characters")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("not a name")
    return value


def _shown(value: object) -> str:
    """Read a text that people get to see."""
    return plain(text(value))


def _profiles(value: object) -> Mapping[str, str]:
    """Read the profiles: a description or the address of one, by name."""
    profiles = members(value)
    if len(profiles) > PROFILES_LIMIT:
        raise ValueError("too long")
    return {_name(name): _shown(description) for name, description in profiles.items()}
