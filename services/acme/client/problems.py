"""What goes wrong at a CA: its problem documents (RFC 7807, RFC 8555 section 6.7), and no answer.

Reasons are for people: plain words, in one line, bounded, without secrets.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

TEXT_LIMIT: Final = 500
"""Of characters that are kept of what a CA says; the texts of CAs have up to about 300."""
SUBPROBLEMS_LIMIT: Final = 100
"""A certificate has up to 100 names at the CAs that allow the most."""
NAME_LIMIT: Final = 253
"""A DNS name, RFC 1035 section 2.3.4."""
URN: Final = "urn:ietf:params:acme:error:"
"""RFC 8555 section 9.7.3."""
UNSPECIFIED: Final = "about:blank"
"""RFC 7807 section 4.2."""
TEMPORARY: Final = frozenset({"rateLimited", "serverInternal"})
"""The same request may succeed later; RFC 8555 section 6.6."""
INVISIBLE: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Categories of characters that end lines, turn texts around, or are not to be seen."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document. `type` lacks ACME's URN; `detail` is plain words, and may be empty.

    `subproblems` are by the identifier that each is about (RFC 8555 section 6.7.1).
    """

    type: str
    detail: str
    subproblems: Mapping[str, "Problem"] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return it as one line."""
        return plain(f"{self.type}: {self.detail}" if self.detail else self.type)


class AcmeProblem(Exception):  # noqa: N818 - the RFC's word
    """The CA refused. Repeating the same request gives the same answer."""

    def __init__(
        self, problem: Problem, *, status: int, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(str(problem))
        self.problem: Final = problem
        self.type: Final = problem.type
        self.detail: Final = problem.detail
        self.subproblems: Final = problem.subproblems
        self.status: Final = status
        self.retry_after_seconds: Final = retry_after_seconds


class CaUnavailable(Exception):  # noqa: N818 - a state of the CA, which passes
    """The CA is not there, has trouble of its own, or limits us; what was asked may be done."""

    def __init__(self, reason: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(plain(reason))
        self.reason: Final = plain(reason)
        self.retry_after_seconds: Final = retry_after_seconds


class CaMisbehaves(Exception):  # noqa: N818 - a verdict on the CA
    """The CA is broken or hostile: its answer is not what the protocol allows."""

    def __init__(self, reason: str) -> None:
        super().__init__(plain(reason))
        self.reason: Final = plain(reason)


class NotOfferedError(ValueError):
    """The CA's directory has no such service."""


def plain(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return a text as one bounded line of visible characters."""
    seen = (" " if unicodedata.category(char) in INVISIBLE else char for char in text[: 4 * limit])
    line = " ".join("".join(seen).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def read_problem(document: object, *, depth: int = 1) -> Problem:
    """Return what a problem document says; whatever in it is not as it should be is left out."""
    members = document if isinstance(document, dict) else {}
    subproblems: dict[str, Problem] = {}
    if depth:
        for each in _list(members.get("subproblems")):
            subproblems.setdefault(_identifier(each), read_problem(each, depth=depth - 1))
    return Problem(
        plain(_text(members, "type").removeprefix(URN)) or UNSPECIFIED,
        plain(_text(members, "detail") or _text(members, "title")),
        subproblems,
    )


def refusal(
    problem: Problem, status: int, retry_after_seconds: int | None
) -> AcmeProblem | CaUnavailable:
    """Return the error that an answer with a problem document is."""
    if problem.type in TEMPORARY:
        return CaUnavailable(str(problem), retry_after_seconds)
    return AcmeProblem(problem, status=status, retry_after_seconds=retry_after_seconds)


def _identifier(subproblem: object) -> str:
    """Return what a subproblem is about, empty where it does not say so."""
    identifier = subproblem.get("identifier") if isinstance(subproblem, dict) else None
    return plain(_text(identifier, "value"), NAME_LIMIT) if isinstance(identifier, dict) else ""


def _text(members: dict[str, object], name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[object]:
    return value[:SUBPROBLEMS_LIMIT] if isinstance(value, list) else []
