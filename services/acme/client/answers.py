"""Answers of a CA, and what their statuses and headers mean (RFC 8555 section 6)."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import httpx2

from services.acme.client.problems import (
    CaMisbehaves,
    CaUnavailable,
    Problem,
    read_problem,
    refusal,
)
from shared import json_body
from shared.clock import utc_now

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
CHAIN: Final = "application/pem-certificate-chain"

RETRY_AFTER_MOST: Final = 7 * 86_400
"""The longest period over which public CAs count."""
RETRY_AFTER_LIMIT: Final = 64
"""Of characters; an HTTP date has 29."""

_LINK: Final = re.compile(r'<([^<>]*)>((?:"[^"]*"|[^<>",])*)')
_RELATION: Final = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', re.IGNORECASE)
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{1,512}")
"""RFC 8555 section 6.5.1: base64url; anything else is ignored."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: httpx2.Headers
    body: bytes

    @property
    def media_type(self) -> str:
        """Return the content's type without parameters, in lower case."""
        return media_type(self.headers)

    @property
    def location(self) -> str | None:
        """Return the address of what the answer is about."""
        return self.headers.get("location")

    @property
    def nonce(self) -> str | None:
        """Return the nonce that came with it (RFC 8555 section 6.5.1)."""
        said = self.headers.get("replay-nonce", "")
        return said if _NONCE.fullmatch(said) else None

    @property
    def retry_after_seconds(self) -> int | None:
        """Return how long the CA wants us to wait, where it says so."""
        return read_retry_after(self.headers.get("retry-after", ""), utc_now())

    @property
    def problem(self) -> Problem | None:
        """Return the problem document of an answer that is one."""
        if self.media_type != PROBLEM or httpx2.codes.is_success(self.status):
            return None
        try:
            return read_problem(json_body.parse(self.body))
        except json.JSONDecodeError:
            return None

    def links(self, relation: str) -> Iterator[str]:
        """Yield the addresses of one relation (RFC 8288)."""
        for header in self.headers.get_list("link"):
            for address, parameters in _LINK.findall(header):
                found = _RELATION.search(parameters)
                if found and relation in (found[1] or found[2]).lower().split():
                    yield address

    def accepted(self) -> "Answer":
        """Return the answer of a success.

        Raises AcmeProblem or CaUnavailable as the status and the problem document say, and
        CaMisbehaves where neither says anything.
        """
        if httpx2.codes.is_success(self.status):
            return self
        problem, wait = self.problem, self.retry_after_seconds
        if self.status == HTTPStatus.TOO_MANY_REQUESTS or is_trouble(self.status):
            said = f": {problem}" if problem else ""
            raise CaUnavailable(f"the CA answered {self.status}{said}", wait)
        if problem is None:
            raise CaMisbehaves(f"the CA answered {self.status} without saying why")
        raise refusal(problem, self.status, wait)


def is_trouble(status: int) -> bool:
    """Return whether a status is the server's own failure."""
    return httpx2.codes.is_server_error(status)


def media_type(headers: httpx2.Headers) -> str:
    """Return the content's type without parameters, in lower case."""
    return headers.get("content-type", "").split(";")[0].strip().lower()


def read_retry_after(value: str, now: datetime) -> int | None:
    """Return the seconds of a Retry-After, which may be a date (RFC 9110 section 10.2.3).

    None where there is none, or none that can be read; at most `RETRY_AFTER_MOST`.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(int(value[:RETRY_AFTER_LIMIT]), RETRY_AFTER_MOST)
    if not value or len(value) > RETRY_AFTER_LIMIT:
        return None
    try:
        seconds = (parsedate_to_datetime(value) - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(round(seconds), 0), RETRY_AFTER_MOST)
