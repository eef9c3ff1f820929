"""What a domain says about who may issue for it (RFC 8659)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

CRITICAL: Final = 128
"""RFC 8659 section 4.1: bit 0 of the flags, the most significant one."""
ISSUE: Final = "issue"
ISSUE_WILDCARD: Final = "issuewild"
KNOWN: Final = frozenset(
    {ISSUE, ISSUE_WILDCARD, "iodef", "issuemail", "contactemail", "contactphone"}
)
"""Properties that a critical flag may stand on; those beyond RFC 8659 concern others than us."""


@dataclass(frozen=True, slots=True)
class Property:
    """A CAA record."""

    flags: int
    tag: str
    value: str


@dataclass(frozen=True, slots=True)
class Issuer:
    """What an `issue` or `issuewild` property permits: a CA (none, if empty) under conditions."""

    domain: str
    parameters: dict[str, str]

    @classmethod
    def parse(cls, value: str) -> "Issuer":
        """Read a property's value (section 4.2); one that is malformed permits nobody."""
        domain, *stated = (part.strip(" \t") for part in value.split(";"))
        pairs = [part.partition("=") for part in stated if part]
        if any(not equals for _, equals, _ in pairs):
            return cls("", {})
        parameters = {tag.strip(" \t").lower(): text.strip(" \t") for tag, _, text in pairs}
        return cls(domain.lower().removesuffix("."), parameters)

    def permits(self, identities: Iterable[str], method: str | None) -> bool:
        """Return whether one of a CA's names is meant, and the method (RFC 8657 section 4)."""
        if not self.domain or self.domain not in {each.lower() for each in identities}:
            return False
        methods = self.parameters.get("validationmethods")
        return method is None or methods is None or method in methods.split(",")


def refusal(
    properties: Sequence[Property],
    identities: Sequence[str],
    *,
    wildcard: bool,
    method: str | None = None,
) -> str | None:
    """Return why a CA with these names may not issue, as what the records say; None if it may.

    `properties` is the relevant record set, `method` how control is proved, such as dns-01.
    """
    for each in properties:
        if each.flags & CRITICAL and each.tag.lower() not in KNOWN:
            return f"have the critical property {each.tag!r}, which nobody here knows"
    relevant = _with_tag(properties, ISSUE_WILDCARD) if wildcard else []
    relevant = relevant or _with_tag(properties, ISSUE)
    if not relevant:
        return None
    issuers = [Issuer.parse(each.value) for each in relevant]
    if any(issuer.permits(identities, method) for issuer in issuers):
        return None
    if method is not None and any(issuer.permits(identities, None) for issuer in issuers):
        return f"do not let the CA use {method}"
    named = sorted({issuer.domain for issuer in issuers if issuer.domain})
    return f"let only {', '.join(named)} issue" if named else "let no CA issue"


def _with_tag(properties: Sequence[Property], tag: str) -> list[Property]:
    return [each for each in properties if each.tag.lower() == tag]
